"""A trained translation Transformer at work: sentences in, translations out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.models.search import Marks, beam_search, greedy
from lpml.models.supervised import Params, Supervised


def translate(
    model: Supervised, params: Params, source: jax.Array, *, beams: int = 4, alpha: float = 0.6
) -> jax.Array:
    """Translations of a batch of sentences; a pure function to be compiled.

    What the decoder knows of the pieces before is kept, so a piece costs one place of the
    decoder and not a whole pass.

    Args:
      model: a `translation_transformer`.
      params: its parameters.
      source: int32 (B, L), pieces, END, PADDING ...; L also bounds the translation.
      beams: 1: greedily; more: `search.beam_search`.
      alpha: of `search.beam_search`.

    Returns:
      int32 (B, L): pieces, END, PADDING ...

    Raises:
      ValueError: beams below 1, or a negative alpha.
    """
    if beams < 1:
        raise ValueError(f"beams = {beams} must be at least 1")
    if alpha < 0:
        raise ValueError(f"alpha = {alpha} must not be negative")
    rows, length = source.shape
    variables = {"params": params}
    nothing = jnp.full_like(source, Marks().begin)
    start: Any = model.module.apply(variables, source, nothing, method="read")
    seen = (source != Marks().padding)[:, None, None]
    own, crossing, seen = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, beams, axis=0), (*start[1:], seen)
    )

    def step(own, last, at):
        return model.module.apply(variables, last, at, own, crossing, seen, method="tell")

    if beams == 1:
        return greedy(step, own, rows=rows, length=length)
    return beam_search(step, own, rows=rows, beams=beams, length=length, alpha=alpha)


def translate_all(
    model: Supervised,
    params: Params,
    source: np.ndarray,
    *,
    batch_size: int = 64,
    beams: int = 4,
    alpha: float = 0.6,
) -> np.ndarray:
    """`translate` for any number of sentences (N, L), `batch_size` at a time, compiled once."""
    if not len(source):
        return source
    search = jax.jit(functools.partial(translate, model, beams=beams, alpha=alpha))
    batch_size = min(batch_size, len(source))
    batches = []
    for start in range(0, len(source), batch_size):
        batch = source[start : start + batch_size]
        # the last ones again where a batch is not full: one shape, one compilation
        full = np.resize(batch, (batch_size, source.shape[1]))
        batches.append(np.asarray(search(params, full))[: len(batch)])
    return np.concatenate(batches)
