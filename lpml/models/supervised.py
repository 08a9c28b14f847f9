"""A network with its loss, as the training step and the optimizers see it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lpml.models.losses import Loss

Batch = dict[str, jax.Array]
Params = Any
ModelState = Any
Augment = Callable[[jax.Array, jax.Array], jax.Array]

# The child of a step's key that augments. Layers draw from children numbered by hashes of
# their paths, and the optimizers from the step's own.
AUGMENTATION = 2**31 + 1
DROPOUT = 2**31 + 2


@dataclasses.dataclass(frozen=True)
class Supervised:
    """A supervised problem: outputs = module(x), objective = mean loss + (l2 / 2) ||w||^2.

    The mean is one over samples, or over answers where the loss counts those (`answers`): a
    sample that asks for more then weighs more, and one that asks for nothing not at all.
    Units are dropped in training steps alone, by modules that find an rng stream "dropout".

    A module with batch statistics (mutable collections) takes a further argument `train`:
    whether to normalise with the batch's own and to move the running averages, or with the
    running averages. Training steps do the former, in all gradients of the step, also those
    at other points than the parameters (SVRG's anchor). Everything that is a function of the
    parameters alone does the latter: evaluation, full gradients, the refreshes of SVRG and
    HALP. So under batch statistics the corrections of these algorithms are not unbiased:
    their full gradient is that of another, though close, function.

    Args:
      module: linen module from x (B, ...) to outputs (B, K), or (B, T, K) of sequences.
      loss: per-sample loss.
      l2: factor of the L2 term, >= 0; part of the objective, so it is in every gradient, full
        or not, and in the reported loss.
      linear: the outputs are linear in the parameters; `gradient_difference` is exact then.
      heavy: a step takes a millisecond or more. Steps are then dispatched one by one, which
        compiles sooner than a loop of them and runs as fast.
      augment: `(key, x) -> x`, applied to the batches of training steps alone; all gradients
        of a step see the same draw.
      input_scale: where x are integer codes, the inputs are `input_scale` times these. They
        become floats batch by batch, so a whole set never does.
      alone: why its trainings cannot be one program under `vmap`, in words; empty: they can.
    """

    module: nn.Module
    loss: Loss
    l2: float = 0.0
    linear: bool = False
    heavy: bool = False
    augment: Augment | None = None
    input_scale: float | None = None
    alone: str = ""

    def __post_init__(self):
        if self.l2 < 0:
            raise ValueError(f"l2 = {self.l2} must not be negative")

    def init(self, key: jax.Array, batch: Batch) -> tuple[Params, ModelState]:
        """Fresh parameters and the mutable collections (batch statistics and the like)."""
        variables = dict(self.module.init(key, self._inputs(batch)))
        return variables.pop("params"), variables

    def table(self, batch: Batch) -> str:
        """Layers, shapes and parameter counts, as text."""
        return self.module.tabulate(
            jax.random.key(0),
            self._inputs(batch),
            console_kwargs={"width": 100, "force_terminal": False},
        )

    def outputs(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Outputs (B, K), with running averages for statistics; `key` as of `objective`."""
        return self._apply(params, model_state, self._inputs(batch), key, train=False)[0]

    def objective(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[ModelState, dict[str, jax.Array]]]:
        """Mean loss with the L2 term; with it the new model state and further metrics.

        Args:
          params: the parameters.
          model_state: the mutable collections.
          batch: `x` and `y`.
          key: of the layers that round stochastically; None, in evaluation: to nearest. With
            `train`, of augmentation and dropout too.
          train: as a training step sees it: augmented, normalised with the batch's own
            statistics, of which the new model state has the running averages.
        """
        x = self._inputs(batch)
        if train and self.augment is not None:
            if key is None:
                raise ValueError("augmentation needs a PRNG `key` passed to objective")
            x = self.augment(jax.random.fold_in(key, AUGMENTATION), x)
        outputs, model_state = self._apply(params, model_state, x, key, train=train)
        weight = self.weight(batch)
        value = _mean(self.loss.value(outputs, batch["y"]), weight)
        if self.l2:
            value = value + 0.5 * self.l2 * optax.tree.norm(params, squared=True)
        metrics = {}
        if self.loss.correct is not None:
            metrics["accuracy"] = _mean(self.loss.correct(outputs, batch["y"]), weight)
        return value, (model_state, metrics)

    def weight(self, batch: Batch) -> jax.Array | None:
        """() number of answers that a batch asks for; None where it is that of its samples."""
        return None if self.loss.answers is None else jnp.sum(self.loss.answers(batch["y"]))

    def _inputs(self, batch, dtype=None):
        """The inputs, codes as floats; of `dtype` if one is given, by default the widest."""
        x = jnp.asarray(batch["x"])
        if self.input_scale is None or not jnp.issubdtype(x.dtype, jnp.integer):
            return x if dtype is None else x.astype(dtype)
        dtype = jnp.result_type(float) if dtype is None else dtype
        return x.astype(dtype) * jnp.asarray(self.input_scale, dtype)

    def _apply(self, params, model_state, x, key, *, train):
        """Outputs and the new model state."""
        variables = {"params": params, **model_state}
        rngs = None if key is None else {"rounding": key}
        if rngs and train:
            rngs["dropout"] = jax.random.fold_in(key, DROPOUT)
        if not (train and model_state):
            return jnp.asarray(self.module.apply(variables, x, rngs=rngs)), model_state
        outputs, changed = self.module.apply(
            variables, x, train=True, rngs=rngs, mutable=list(model_state)
        )
        return jnp.asarray(outputs), dict(changed)

    def gradient_difference(
        self, anchor: Params, offset: Params, model_state: ModelState, batch: Batch
    ) -> Params:
        """grad(anchor + offset) - grad(anchor) on a batch, in the dtype of `offset`.

        Only for models that are linear in their parameters: outputs move by the outputs of
        the offset, so nothing close is subtracted and float32 serves an anchor of any size.
        """
        if not self.linear:
            raise ValueError("gradient_difference needs a model linear in its parameters")
        dtype = jax.tree.leaves(offset)[0].dtype
        narrow = {**batch, "x": self._inputs(batch, dtype)}

        def outputs(params):
            return self.outputs(params, model_state, narrow)

        change, pull_back = jax.vjp(outputs, offset)
        start = self.outputs(anchor, model_state, batch)
        slope = self.loss.difference(start, change, batch["y"])
        (grads,) = pull_back(slope / len(change))
        return jax.tree.map(lambda g, z: g + self.l2 * z, grads, offset)


def _mean(values, weight):
    """The mean of (B,), or their sum over `weight`; 0 where that is 0."""
    return jnp.mean(values) if weight is None else jnp.sum(values) / jnp.maximum(weight, 1)
