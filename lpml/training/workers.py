"""Many workers, each with a gradient of its own: what they send to each other, and its cost."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lpml.parallel import Exchange, Placement, quantized_mean, wire_report
from lpml.parallel.mesh import AXIS
from lpml.quant import clip_to_deviations, stochastic_quantize

# The child of a step's key that rounds gradients; see ROUNDING in `training/step.py`.
SENDING = 2**31 + 2


@dataclasses.dataclass(frozen=True)
class Workers:
    """A batch shared out among workers, whose gradients are exchanged and averaged.

    Every worker takes the gradient of its own samples at the common parameters. What is sent
    is that gradient in few bits, or, without an exchange, in float32; all workers then have
    the same mean and take the same step. On one device they are simulated by `vmap`, on a
    mesh every device is one: the numbers are the same up to float32's rounding.

    Attributes:
      count: of the workers, at least 1.
      exchange: how gradients are sent; None: as float32, by an all-reduce.
      norms: whether to measure, for every tensor of parameters, how much quantisation blows
        up the gradient: the mean over the workers of ||Q(g)||^2 / ||g||^2.
    """

    count: int
    exchange: Exchange | None = None
    norms: bool = False

    def gradient(self, place: Placement) -> Callable[..., Any]:
        """The gradient of a batch in the manner of `training.step.Gradient`."""

        def of_all(objective, params, model_state, batch, key):
            def of_one(shared, part):
                params, model_state, key = shared
                own = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
                (value, (moved, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(
                    params, model_state, part, own
                )
                if self.norms:
                    metrics = {**metrics, **self._blow_ups(grads, own)}
                found = jax.lax.pmean((value, (moved, metrics)), AXIS)
                if self.exchange is None:
                    return found, jax.lax.pmean(grads, AXIS)
                mean = quantized_mean(
                    grads,
                    jax.random.fold_in(key, SENDING),
                    axis_name=AXIS,
                    exchange=self.exchange,
                )
                return found, mean

            call = place.per_worker(of_one, self.count)
            return call((params, model_state, key), batch)

        return of_all

    def report(self, params: Any) -> dict[str, jax.Array]:
        """`wire_bytes`: what each worker receives in a step, by formula (see `wire_report`)."""
        report = wire_report(params, self.count, self.exchange or Exchange())
        received = report.received
        if self.exchange is None:  # the mean is taken in the gradients' own type
            wide = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
            received = report.float32 * wide / 4
        return {"wire_bytes": jnp.asarray(received, jnp.float32)}

    def _blow_ups(self, grads, key):
        """`norm_ratio/<tensor>` of this worker's gradient, by a draw of its own."""
        assert self.exchange is not None
        ratios = {}
        for at, (path, g) in enumerate(jax.tree_util.tree_leaves_with_path(grads)):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            clip = self.exchange.clip
            clipped = g if clip is None else clip_to_deviations(g, clip)
            drawn = jax.random.fold_in(jax.random.fold_in(key, SENDING), at)
            sent = stochastic_quantize(clipped, self.exchange.bits, drawn).dequantize()
            norm = jnp.sum(g * g)
            ratio = jnp.sum(sent * sent) / jnp.where(norm > 0, norm, 1)
            ratios[f"norm_ratio/{name}"] = ratio
        return ratios


def workers(
    *,
    count: int,
    bits: int | None = None,
    clip: float | None = None,
    scheme: str | None = None,
    format: str | None = None,
    exempt_below: int | None = None,
    norms: bool = False,
) -> Workers | None:
    """The section `workers` of a config; None where there is one worker that sends nothing.

    Args:
      count: N >= 1; each has batch_size / N samples of every batch.
      bits: m of SQ_m, 2 to 8, in which gradients are sent; None: float32.
      clip: gradients are clipped, tensor by tensor, at so many standard deviations of their
        entries before they are sent; None: not at all.
      scheme: `"one_shot"` (the default), `"two_shot"` or `"shared_scale"`; see
        `lpml.parallel.Exchange`.
      format: a name of `lpml.formats` to send in, in place of SQ_m.
      exempt_below: tensors with fewer entries (by default 1024) are sent as float32, together.
      norms: see `Workers`.

    Raises:
      ValueError: a number out of its range, or settings of an exchange without one.
    """
    if count < 1:
        raise ValueError(f"count = {count} must be at least 1")
    sends = bits is not None or format is not None
    if not sends:
        given = dict(clip=clip, scheme=scheme, norms=norms or None)
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{name} acts on gradients that are sent in few bits; set bits or format"
                )
        return Workers(count) if count > 1 else None
    if bits is not None and format is not None:
        raise ValueError(f"bits = {bits} and format = {format!r} both name codes; set one")
    if norms and bits is None:
        raise ValueError("norms are those of SQ_m; set bits")
    settings: dict[str, Any] = dict(
        bits=bits, clip=clip, scheme=scheme, format=format, exempt_below=exempt_below
    )
    chosen = {name: value for name, value in settings.items() if value is not None}
    return Workers(count, Exchange(**chosen), norms)
