"""What a checkpoint must hold: its leaves by key path, and the bytes of its files.

Orbax stores the arrays; the manifest beside them says whether the files are the ones that
were written and whether the leaves fit the run, before orbax opens anything. Leaves are kept
flat under their key paths, so that None, empty tuples, NamedTuples and typed keys come back
through the run's own tree.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

NAME = "manifest.json"
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class CheckpointMismatch(ValueError):
    """A checkpoint holds other leaves, shapes or dtypes than the run asks for."""


def pack(tree: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns host arrays by key path, and the description of all leaves (plain JSON values).

    Leaves without elements are in the description only. Types that numpy itself does not
    know (bfloat16, 8- and 4-bit types) become unsigned integers of their width, typed keys
    their words.

    Raises:
        TypeError: a leaf is no array, or has 64 bits while jax's x64 is off.
        ValueError: two leaves share a key path.
    """
    arrays, leaves = {}, {}
    for path, leaf in _named_leaves(tree):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            raise TypeError(f"leaf {path} is a {type(leaf).__name__}, not an array")
        if not _fits_jax(leaf):
            raise TypeError(f"leaf {path} is {leaf.dtype}, which needs jax_enable_x64")
        leaves[path] = _signature(leaf)
        if (host := _on_host(leaf)).size:
            arrays[path] = host
    return arrays, leaves


def write(folder: Path, step: int, leaves: dict[str, Any]) -> None:
    """Writes the manifest of a folder whose other files are complete."""
    files = {
        path.relative_to(folder).as_posix(): _digest(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {"step": step, "leaves": leaves, "files": files}
    sealed = {**content, "blake2b": _digest(_canonical(content))}
    (folder / NAME).write_text(json.dumps(sealed, indent=1), encoding="utf-8")


def read(folder: Path, step: int) -> dict[str, Any]:
    """Returns the leaves of a folder whose files are all as they were written.

    Raises:
        ValueError: the manifest or a file is damaged or belongs to another step.
        OSError: a file is missing or cannot be read.
    """
    try:
        content = json.loads((folder / NAME).read_bytes())
    except ValueError:
        content = None
    seal = content.pop("blake2b", None) if isinstance(content, dict) else None
    if content is None or seal != _digest(_canonical(content)) or content["step"] != step:
        raise ValueError(f"{NAME} is damaged")
    for name, digest in content["files"].items():
        if _digest((folder / name).read_bytes()) != digest:
            raise ValueError(f"{name} is damaged")
    return content["leaves"]


def compare(saved: dict[str, Any], like: Any) -> None:
    """Raises CheckpointMismatch, naming the first leaf of `like` that does not fit."""
    wanted = dict(_named_leaves(like))
    for path, leaf in wanted.items():
        asked = _words(_signature(leaf))
        if path not in saved:
            raise CheckpointMismatch(f"has no leaf {path}, which is {asked} in this run")
        if (held := _words(saved[path])) != asked:
            raise CheckpointMismatch(
                f"holds {held} at leaf {path}, which is {asked} in this run"
            )
        if not _fits_jax(leaf):
            raise CheckpointMismatch(f"holds {held} at leaf {path}, which needs jax_enable_x64")
    for path, entry in saved.items():
        if path not in wanted:
            held = _words(entry)
            raise CheckpointMismatch(f"holds leaf {path}, {held}, which this run does not have")


def unpack(saved: dict[str, Any], arrays: dict[str, np.ndarray], like: Any) -> Any:
    """Returns the tree in the form of `like`: new jax arrays on the devices `like` names.

    A leaf of `like` that is committed to a sharding, or a ShapeDtypeStruct with one, gives
    the place; other leaves go to the default device. Call compare() first.
    """

    def restored(path: str, leaf: Any) -> jax.Array:
        raw = arrays.get(path)
        if _is_key(leaf):
            shape = jax.eval_shape(jax.random.key_data, leaf).shape
            words = jnp.array(np.zeros(shape, np.uint32) if raw is None else raw)
            value = jax.random.wrap_key_data(words, impl=saved[path]["impl"])
        else:
            host = np.zeros(leaf.shape, leaf.dtype) if raw is None else raw.view(leaf.dtype)
            # Copied: an array that aliases a numpy buffer cannot be donated.
            value = jnp.array(host, copy=True)
        place = _place(leaf)
        return value if place is None else jax.device_put(value, place)

    leaves = [restored(path, leaf) for path, leaf in _named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in pairs]
    if len(dict(named)) != len(named):
        raise ValueError("two leaves of the tree have the same key path")
    return named


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _on_host(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = leaf.addressable_shards[0].data  # replicated: this process has it whole
    host = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return host.view(_UNSIGNED[host.dtype.itemsize]) if host.dtype.kind == "V" else host


def _fits_jax(leaf: Any) -> bool:
    return _is_key(leaf) or jax.dtypes.canonicalize_dtype(leaf.dtype) == leaf.dtype


def _signature(leaf: Any) -> dict[str, Any]:
    """Shape and dtype; of a key also the implementation, where the leaf is a real array."""
    signature = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if _is_key(leaf) and isinstance(leaf, jax.Array):
        signature["impl"] = str(jax.random.key_impl(leaf))
    return signature


def _words(entry: dict[str, Any]) -> str:
    return f"{entry['dtype']}[{','.join(map(str, entry['shape']))}]"


def _place(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf.sharding if leaf.committed else None
    return getattr(leaf, "sharding", None)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
