"""Exports of quantised networks: round trips, true size, damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.quant import QuantizedWeights, laq
from lpml.training.export import load_quantized, save_quantized


def network(bits=3):
    w = jax.random.normal(jax.random.key(0), (100, 80))
    return {
        "Dense_0": {"kernel": laq(w, bits=bits), "bias": jnp.arange(80, dtype=jnp.bfloat16)},
        "Dense_1": {"kernel": laq(w, bits=bits, axis=-1), "bias": jnp.ones(())},
        "steps": jnp.arange(3),
    }


def is_quantized(leaf):
    return isinstance(leaf, QuantizedWeights)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_network_comes_back_at_its_true_size(bits, tmp_path):
    tree = network(bits)
    path = tmp_path / "network.npz"
    size = save_quantized(path, tree)
    assert size == path.stat().st_size
    leaves = jax.tree.leaves(tree, is_leaf=is_quantized)
    # 2 * 8000 weights of `bits` bits, 1 + 80 scales, and the plain leaves
    payload = 2 * 1000 * bits + 4 * 81 + 2 * 80 + 4 + 12
    assert payload == sum(leaf.nbytes for leaf in leaves)
    assert payload < size < payload + 1000 + 150 * len(leaves)
    back = load_quantized(path)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(tree)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert [p.name for p in tmp_path.iterdir()] == ["network.npz"]


def test_torn_damaged_and_foreign_files_are_one_sentence(tmp_path):
    path = tmp_path / "network.npz"
    save_quantized(path, network())
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (whole[:middle], b"", b"not a file of ours", flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"network\.npz is damaged or no file of"):
            load_quantized(path)
    np.savez(path, w=np.ones(3))
    with pytest.raises(ValueError, match="no file of save_quantized"):
        load_quantized(path)


def test_trees_that_have_no_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only dicts nest"):
        save_quantized(tmp_path / "x.npz", {"a": [jnp.ones(2)]})
    with pytest.raises(ValueError, match="without '/'"):
        save_quantized(tmp_path / "x.npz", {"a/b": jnp.ones(2)})
    assert not list(tmp_path.iterdir())
