"""The train state: what a step reads and writes, and a checkpoint holds."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lpml.optim import ProjectedTransformation


class TrainState(struct.PyTreeNode):
    """Parameters, optimizer state and randomness of one training.

    Like `flax.training.train_state.TrainState`, but `apply_gradients` forwards extra arguments
    to the transformation: loss values, functions, keys.

    Attributes:
      step: () int32, steps taken.
      params: the visible parameters.
      model_state: mutable collections of the model.
      opt_state: state of `tx`.
      key: base PRNG key; the randomness of a step is `child_key(key, step)` of
        `lpml.formats`.
      tx: the optax transformation, static.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: optax.OptState
    key: jax.Array
    tx: optax.GradientTransformationExtraArgs = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        *,
        params: Any,
        tx: optax.GradientTransformation,
        key: jax.Array,
        model_state: Any = None,
    ) -> "TrainState":
        """The state before the first step."""
        tx = optax.with_extra_args_support(tx)
        opt_state = tx.init(params)
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=_visible(tx, opt_state, params),
            model_state={} if model_state is None else model_state,
            opt_state=opt_state,
            key=key,
            tx=tx,
        )

    def apply_gradients(self, *, grads: Any, **extra: Any) -> "TrainState":
        """One update; `extra` goes to `tx.update`: value, value_fn, grad_fn, batch, key."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params, **extra)
        params = _visible(self.tx, opt_state, optax.apply_updates(self.params, updates))
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state)


def _visible(tx, opt_state, params):
    """The parameters, exactly where the transformation wants them."""
    if isinstance(tx, ProjectedTransformation):
        return tx.visible(opt_state, params)
    return params
