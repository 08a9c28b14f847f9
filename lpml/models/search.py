"""The likeliest sequence of a model that tells one piece at a time: greedy and beam search.

A model is a function `step(state, last, at) -> (logits, state)`: `last` (N,) are the pieces
at place `at`, `logits` (N, K) those of the piece after them, and `state` is a tree of arrays
with leading axis N that holds what the model keeps of the pieces before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Step = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


class Marks(NamedTuple):
    """Numbers of the pieces that are no text, as of `lpml.data`; the first two are not told."""

    padding: int = 0
    begin: int = 1
    end: int = 2


def greedy(
    step: Step, state: Any, *, rows: int, length: int, marks: Marks | None = None
) -> jax.Array:
    """The likeliest piece at each place, given those before.

    Args:
      step: the model.
      state: before the first piece, with leading axis `rows`.
      rows: N, number of sequences.
      length: L, most pieces of one, its end included; END is put where that is reached.
      marks: pieces that are no text.

    Returns:
      (N, L) int32: pieces, END, PADDING ...
    """
    marks = marks or Marks()

    def going(loop):
        at, _, _, _, ended = loop
        return (at < length) & ~jnp.all(ended)

    def body(loop):
        at, state, pieces, last, ended = loop
        logits, state = step(state, last, at)
        told = jnp.argmax(_tellable(logits, marks), axis=-1).astype(jnp.int32)
        told = jnp.where(at == length - 1, marks.end, told)
        pieces = pieces.at[:, at].set(jnp.where(ended, marks.padding, told))
        return at + 1, state, pieces, told, ended | (told == marks.end)

    pieces = jnp.full((rows, length), marks.padding, jnp.int32)
    start = jnp.full(rows, marks.begin, jnp.int32)
    loop = (jnp.int32(0), state, pieces, start, jnp.zeros(rows, bool))
    return jax.lax.while_loop(going, body, loop)[2]


class Beams(NamedTuple):
    """The sequences that are being searched, and the best of those that have ended.

    Attributes:
      at: () int32, place of the next piece.
      state: the model's, leading axis N * beams.
      pieces: (N, beams, L) int32, those so far.
      scores: (N, beams), their log probabilities; -inf where there are not so many yet.
      best: (N, L) int32, the best sequence that has ended.
      best_score: (N,), its log probability over its penalty.
    """

    at: jax.Array
    state: Any
    pieces: jax.Array
    scores: jax.Array
    best: jax.Array
    best_score: jax.Array


def beam_search(
    step: Step,
    state: Any,
    *,
    rows: int,
    beams: int,
    length: int,
    alpha: float = 0.6,
    marks: Marks | None = None,
) -> jax.Array:
    """The sequence of best score among those that a beam of width `beams` meets.

    score = sum_t log p(piece_t | pieces before) / ((5 + n) / 6)^alpha, where n counts the
    pieces with END. At each place the `beams` likeliest unended sequences are kept, and those
    may end that are among the `beams` likeliest of all, ended or not; at the last place all
    end. Without that rule a wide search finds what an unsure model often likes best, the
    empty sentence. With `beams` at least the number of sequences that a place can make the
    search is exhaustive. It stops early when no sequence could still win.

    Args:
      step: the model.
      state: before the first piece, with leading axis `rows` * `beams`, the beams of one
        sequence side by side and alike.
      rows: N, number of sequences.
      beams: sequences kept, at least 1. A single one goes on after the first END, which the
        greedy search does not, and the better of its ends wins.
      length: L, most pieces of a sequence, its end included.
      alpha: 0 or more: how much longer sequences are favoured.
      marks: pieces that are no text.

    Returns:
      (N, L) int32: pieces, END, PADDING ...

    References:
      Wu et al., Google's neural machine translation system, 2016, section 7.
    """
    marks = marks or Marks()

    def penalty(pieces: Any) -> Any:
        return ((5 + pieces) / 6) ** alpha

    def going(search: Beams) -> jax.Array:
        # scores only fall and penalties only grow
        bound = jnp.max(search.scores, axis=1) / penalty(length)
        return (search.at < length) & jnp.any(bound > search.best_score)

    def body(search: Beams) -> Beams:
        at = search.at
        before = search.pieces[:, :, jnp.maximum(at - 1, 0)]
        last = jnp.where(at == 0, marks.begin, before).reshape(-1)
        logits, state = step(search.state, last, at)
        logs = jax.nn.log_softmax(logits).reshape(rows, beams, -1)
        scores = search.scores[..., None] + logs.astype(search.scores.dtype)
        scores = _tellable(scores, marks)
        least = jax.lax.top_k(scores.reshape(rows, -1), beams)[0][:, -1:]
        ended = scores[..., marks.end]
        ended = jnp.where((ended >= least) | (at == length - 1), ended, -jnp.inf)
        best, best_score = _better(search, ended / penalty(at + 1), marks)
        going_on = scores.at[..., marks.end].set(-jnp.inf)
        scores, chosen = jax.lax.top_k(going_on.reshape(rows, -1), beams)
        parents, told = jnp.divmod(chosen, logs.shape[-1])
        pieces = jnp.take_along_axis(search.pieces, parents[..., None], axis=1)
        return Beams(
            at + 1,
            _of_parents(state, parents),
            pieces.at[:, :, at].set(told.astype(jnp.int32)),
            scores,
            best,
            best_score,
        )

    wide = jnp.result_type(float)
    scores = jnp.full((rows, beams), -jnp.inf, wide).at[:, 0].set(0)
    pieces = jnp.full((rows, beams, length), marks.padding, jnp.int32)
    start = Beams(
        *(jnp.int32(0), state, pieces, scores),
        *(pieces[:, 0], jnp.full(rows, -jnp.inf, wide)),
    )
    return jax.lax.while_loop(going, body, start).best


def _better(search: Beams, ended: jax.Array, marks: Marks) -> tuple[jax.Array, jax.Array]:
    """The best sequence so far or, of scores (N, beams), the best that ends here."""
    which = jnp.argmax(ended, axis=1)
    score = jnp.take_along_axis(ended, which[:, None], axis=1)[:, 0]
    pieces = jnp.take_along_axis(search.pieces, which[:, None, None], axis=1)[:, 0]
    pieces = pieces.at[:, search.at].set(marks.end)
    better = score > search.best_score
    best = jnp.where(better[:, None], pieces, search.best)
    return best, jnp.where(better, score, search.best_score)


def _tellable(scores: jax.Array, marks: Marks) -> jax.Array:
    """Scores (..., K) without PADDING and BEGIN."""
    return scores.at[..., jnp.array([marks.padding, marks.begin])].set(-jnp.inf)


def _of_parents(state: Any, parents: jax.Array) -> Any:
    """The state (N * beams, ...) of the sequences which `parents` (N, beams) go on from."""
    rows, beams = parents.shape
    index = (jnp.arange(rows)[:, None] * beams + parents).reshape(-1)
    return jax.tree.map(lambda leaf: leaf[index], state)
