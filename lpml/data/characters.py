"""Text one character at a time: windows of a book, and of a chain whose entropy is known."""

import numpy as np

from lpml.data.dataset import DataError, Dataset, check_limit
from lpml.data.files import check_md5, data_folder, decompress, first_file, read_file
from lpml.data.text import decode_text

_WANTED = "tinyshakespeare/input.txt (with or without .gz) into a folder"
_MD5 = "6fb458f1232090904fb40fe944165e91"
_FOR_TRAINING = 0.9  # the usual split of this text: the first 1003854 characters


def tinyshakespeare(
    *,
    dir: str | None = None,
    context: int = 64,
    stride: int | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> Dataset:
    """Tiny Shakespeare: 40000 lines of his plays; the next character is to be told.

    Args:
      dir: folder that holds tinyshakespeare/ or the file input.txt itself, with or without
        .gz; None for that of the variable LPML_DATA.
      context: T, characters of a window, at least 1.
      stride: characters between the beginnings of two training windows, at least 1; None:
        `context`, so that every character is told once an epoch. The test windows never
        overlap.
      limit: use the first `limit` training windows only, at least 1; None for all.
      verify: check the md5 of the file; False for a text of your own under that name.

    Returns:
      x (N, T) int32, the numbers of characters in the sorted list of all (65 of them), from
      the first 90 % of the text; y (N, T) int32, those that follow each; test likewise from
      the last 10 %; classes the number of characters.

    Raises:
      DataError: the file is missing, damaged, not the published one, or too short.
      ValueError: an argument out of its range.
    """
    _check_windows(context, stride)
    check_limit(limit)
    text = _read(dir, verify)
    # code points sort as characters do
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known, ids = np.unique(points, return_inverse=True)
    ids = ids.astype(np.int32)
    border = round(_FOR_TRAINING * len(ids))
    if min(border, len(ids) - border) <= context:
        raise DataError(
            f"the text has {len(ids)} characters, too few for windows of context = {context}: "
            "take a longer text or a smaller context."
        )
    train = windows(ids[:border], context, stride or context)
    return Dataset(
        {key: value[:limit] for key, value in train.items()},
        windows(ids[border:], context, context),
        len(known),
    )


def windows(ids: np.ndarray, context: int, stride: int) -> dict[str, np.ndarray]:
    """Stretches of a sequence and the same stretches one further.

    Args:
      ids: int (L,), L > context.
      context: T.
      stride: between the beginnings of two windows.

    Returns:
      x and y (N, T), N = (L - 1 - T) // stride + 1: x[n, t] = ids[n stride + t] and
      y[n, t] = ids[n stride + t + 1].
    """
    views = np.lib.stride_tricks.sliding_window_view(ids, context + 1)[::stride]
    return {"x": views[:, :-1].copy(), "y": views[:, 1:].copy()}


def markov_text(
    *,
    samples: int = 1024,
    test_samples: int = 256,
    context: int = 32,
    classes: int = 12,
    branching: float = 2.0,
    seed: int = 0,
) -> Dataset:
    """A text that needs no file and whose best loss is known: a Markov chain of characters.

    Every row of the transition matrix (`markov_chain`) is drawn from a Dirichlet
    distribution, and each window is a run of the chain from its stationary distribution. No
    model's mean cross entropy on new windows is below the chain's entropy rate,
    - sum_i p_i sum_j P_ij log P_ij, and one that knows P attains it.

    Args:
      samples: training windows, at least 1.
      test_samples: test windows, at least 0.
      context: T, characters of a window, at least 1.
      classes: number of characters, at least 2.
      branching: about how many characters follow on one, > 0: the sum of the Dirichlet
        distribution's parameters. Small is easy, large is noise.
      seed: of the chain and of the windows, at least 0.

    Returns:
      x (N, T) int32 and y (N, T) int32, in 0..classes-1, as of `tinyshakespeare`.

    Raises:
      ValueError: an argument out of its range.
    """
    _check_windows(context, None)
    for name, value, least in (
        ("samples", samples, 1),
        ("test_samples", test_samples, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value} but must be at least {least}.")
    transitions, stationary = markov_chain(classes=classes, branching=branching, seed=seed)
    random = np.random.default_rng([seed, 1])
    ids = np.empty((samples + test_samples, context + 1), np.int32)
    ids[:, 0] = _draw(random, np.broadcast_to(stationary, (len(ids), classes)))
    for t in range(context):
        ids[:, t + 1] = _draw(random, transitions[ids[:, t]])
    parts = [
        {"x": part[:, :-1].copy(), "y": part[:, 1:].copy()}
        for part in (ids[:samples], ids[samples:])
    ]
    return Dataset(parts[0], parts[1] if test_samples else None, classes)


def markov_chain(*, classes: int, branching: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Transition matrix P (classes, classes), rows sum to 1, and stationary p (classes,).

    Raises:
      ValueError: classes below 2, branching not above 0, or a negative seed.
    """
    if classes < 2:
        raise ValueError(f"classes is {classes} but must be at least 2.")
    if not branching > 0:
        raise ValueError(f"branching is {branching} but must be above 0.")
    if seed < 0:
        raise ValueError(f"seed is {seed} but must be at least 0.")
    random = np.random.default_rng([seed, 0])
    rows = random.dirichlet(np.full(classes, branching / classes), classes)
    # A hundredth of chance for anything: the chain has one stationary distribution, and no
    # row is without numbers where tiny parameters underflow.
    rows = 0.99 * np.nan_to_num(rows) + 0.01 / classes
    rows /= rows.sum(1, keepdims=True)
    # p (P - 1) = 0 with sum p = 1: one equation more than unknowns, and all hold
    equations = np.concatenate([rows.T - np.eye(classes), np.ones((1, classes))])
    return rows, np.linalg.lstsq(equations, np.eye(classes + 1)[-1])[0]


def _draw(random: np.random.Generator, chances: np.ndarray) -> np.ndarray:
    """One index for each row of `chances` (N, classes)."""
    below = np.cumsum(chances, axis=1)[:, :-1] <= random.random((len(chances), 1))
    return below.sum(1)


def _check_windows(context: int, stride: int | None) -> None:
    if context < 1:
        raise ValueError(f"context is {context} but must be at least 1.")
    if stride is not None and stride < 1:
        raise ValueError(f"stride is {stride} but must be None or at least 1.")


def _read(dir: str | None, verify: bool) -> str:
    root = data_folder(dir, _WANTED)
    path = first_file((root / "tinyshakespeare", root), ("input.txt", "input.txt.gz"))
    if path is None:
        raise DataError(
            f"input.txt is not under {root}: put {_WANTED} and name that folder in the "
            "variable LPML_DATA or, for one config, with --config.data.dir."
        )
    content = decompress(read_file(path), path)
    if verify:
        check_md5(content, _MD5, path)
    return decode_text(content, path)
