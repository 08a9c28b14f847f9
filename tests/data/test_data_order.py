import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lpml.data import batch_indices, bucketed_indices

SAMPLINGS = ("replacement", "shuffle", "sequential")

FROZEN = [
    [[4340, 6275, 58117], [17267, 27517, 12387]],
    [[12288, 20405, 12948], [51738, 35114, 44929]],
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    start=st.integers(0, 10**12),
    cuts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    size=st.integers(1, 5000),
    batch_size=st.integers(1, 40),
    sampling=st.sampled_from(SAMPLINGS),
)
def test_steps_are_the_same_however_they_are_asked_for(
    seed, start, cuts, size, batch_size, sampling
):
    kwargs = {"size": size, "batch_size": batch_size, "sampling": sampling}
    whole = batch_indices(seed, start, sum(cuts), **kwargs)
    parts, step = [], start
    for count in cuts:
        parts.append(batch_indices(seed, step, count, **kwargs))
        step += count
    assert whole.dtype == np.int32
    assert whole.shape == (sum(cuts), batch_size)
    assert np.all((whole >= 0) & (whole < size))
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_replacement_is_uniform_and_independent_by_chi_square(batch_size):
    """At significance 1e-4; the seeds are fixed, so the outcome is too."""
    size = 50
    draws = batch_indices(7, 0, 60000, size=size, batch_size=batch_size, sampling="replacement")
    flat = draws.reshape(-1)
    counts = np.bincount(flat, minlength=size)
    assert stats.chisquare(counts).pvalue > 1e-4
    pairs = np.bincount(flat[:-1] * size + flat[1:], minlength=size**2)
    assert stats.chisquare(pairs).pvalue > 1e-4


def test_shuffle_first_position_is_uniform_by_chi_square():
    size = 20
    draws = batch_indices(3, 0, 20000, size=size, batch_size=size, sampling="shuffle")
    for column in (0, 7, size - 1):
        counts = np.bincount(draws[:, column], minlength=size)
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("size", "batch_size"), [(1, 1), (7, 3), (5, 12), (4097, 64), (64, 64)]
)
def test_shuffle_covers_each_epoch_exactly_once(size, batch_size):
    epochs = 9
    count = -(-epochs * size // batch_size)
    stream = batch_indices(0, 0, count, size=size, batch_size=batch_size, sampling="shuffle")
    rows = stream.reshape(-1)[: epochs * size].reshape(epochs, size)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(size), (epochs, 1)))
    if size > 6:  # 9 of 5! may meet by chance
        assert len({tuple(row) for row in rows}) == epochs


def test_sequential_is_positions_modulo_size():
    got = batch_indices(9, 4, 3, size=7, batch_size=5, sampling="sequential")
    np.testing.assert_array_equal(got.reshape(-1), np.arange(20, 35) % 7)


@pytest.mark.parametrize("sampling", ["replacement", "shuffle"])
def test_seeds_are_well_separated(sampling):
    rows = [
        batch_indices(seed, 0, 100, size=1000, batch_size=10, sampling=sampling).reshape(-1)
        for seed in (0, 1, 2, 2**32, 2**64)
    ]
    for i, a in enumerate(rows):
        for b in rows[:i]:
            assert np.mean(a == b) < 0.02  # 0.001 expected of 1000 draws


def test_the_order_of_a_seed_is_frozen():
    """These are results of this code: a change breaks the resumption of old runs."""
    got = [
        batch_indices(42, 1000, 2, size=60000, batch_size=3, sampling=s).tolist()
        for s in ("replacement", "shuffle")
    ]
    assert got == FROZEN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"sampling": "random"},
            "'random' but must be one of replacement, shuffle, sequential",
        ),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": 0}, "size is 0"),
        ({"size": 2**31}, "less than 2\\*\\*31"),
        ({"seed": -1}, "seed is -1"),
        ({"start": -1}, "start is -1"),
        ({"count": -1}, "count is -1"),
    ],
)
def test_bad_arguments_give_one_clear_sentence(change, words):
    given = {"seed": 0, "start": 0, "count": 1, "size": 5, "batch_size": 1}
    with pytest.raises(ValueError, match=words):
        batch_indices(**{**given, "sampling": "replacement", **change})


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    start=st.integers(0, 10**9),
    cuts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    buckets=st.lists(st.integers(0, 3), min_size=9, max_size=80),
    batch_size=st.integers(1, 9),
)
def test_bucketed_steps_are_the_same_however_they_are_asked_for(
    seed, start, cuts, buckets, batch_size
):
    kwargs = {"buckets": np.array(buckets), "batch_size": batch_size}
    whole = bucketed_indices(seed, start, sum(cuts), **kwargs)
    ends = start + np.cumsum([0, *cuts])
    parts = [bucketed_indices(seed, a, b - a, **kwargs) for a, b in itertools.pairwise(ends)]
    assert (whole.dtype, whole.shape) == (np.int32, (sum(cuts), batch_size))
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_an_epoch_of_buckets_has_every_sample_once_but_for_a_part_that_changes():
    size, batch_size, rows = 107, 10, 10
    buckets = np.arange(size) % 3
    left_out = []
    for epoch in range(4):
        drawn = bucketed_indices(5, rows * epoch, rows, buckets=buckets, batch_size=batch_size)
        flat = drawn.reshape(-1)
        assert len(set(flat.tolist())) == rows * batch_size
        left_out.append(frozenset(range(size)) - set(flat.tolist()))
        mixed = [len(set(buckets[row])) > 1 for row in drawn]
        assert sum(mixed) <= 3
        of = [buckets[row[0]] for row in drawn]
        assert of != sorted(of), "the buckets come in turns"
    assert len(set(left_out)) == 4
    with pytest.raises(ValueError, match="batch_size is 108 but must be 1 to 107"):
        bucketed_indices(0, 0, 1, buckets=buckets, batch_size=108)
