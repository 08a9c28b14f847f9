"""Quantised networks as a file of their true size: packed codes, scales and plain leaves."""

import json
import math
import os
import zipfile
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from lpml.quant import PackedWeights, QuantizedWeights

_FORMAT = "lpml quantised network 1"


def save_quantized(path: str | os.PathLike[str], params: Any) -> int:
    """Writes nested dicts of `QuantizedWeights` and arrays, as `quantized_params` gives them.

    The file is an .npz (uncompressed) of `header`, JSON that describes the leaves, and `data`,
    their bytes: `bits` per weight, scales and plain leaves in their own dtypes. So it takes
    `nbytes` of the leaves and about 150 bytes more for each. It appears whole or not at all.

    Args:
      path: of the file; one that is there is replaced.
      params: its keys are strings without "/".

    Returns:
      Bytes of the file.

    Raises:
      ValueError: another container than a dict with such keys.
      OSError: the file cannot be written.
    """
    entries, pieces = [], []
    for name, leaf in _flat(params, ""):
        entry: dict[str, Any] = {"name": name, "shape": list(np.shape(_codes_of(leaf)))}
        if isinstance(leaf, QuantizedWeights):
            entry |= {"bits": leaf.bits, "levels": leaf.levels}
            arrays = [np.asarray(leaf.pack().words), np.asarray(leaf.scale)]
            entry["scale"] = list(arrays[1].shape)
        else:
            arrays = [np.asarray(leaf)]
        entry["dtype"] = arrays[-1].dtype.name
        entries.append(entry)
        pieces += [array.tobytes() for array in arrays]
    header = json.dumps({"format": _FORMAT, "leaves": entries}, separators=(",", ":"))
    path = os.fspath(path)
    fresh = f"{path}.{os.getpid()}.writing"
    try:
        with open(fresh, "wb") as file:
            np.savez(
                file,
                header=np.frombuffer(header.encode(), np.uint8),
                data=np.frombuffer(b"".join(pieces), np.uint8),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        if os.path.exists(fresh):
            os.remove(fresh)
    return os.path.getsize(path)


def load_quantized(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_quantized` was given, bit for bit.

    Raises:
      ValueError: the file is torn, damaged or another program's; says which file.
      FileNotFoundError: there is none.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            data = stored["data"].tobytes()
        if header["format"] != _FORMAT:
            raise ValueError(header["format"])
        return _tree(header["leaves"], data)
    except FileNotFoundError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged or no file of save_quantized; export the "
            "network again"
        ) from error


def _tree(entries, data):
    root: dict[str, Any] = {}
    at = 0

    def take(count, dtype):
        nonlocal at
        array = np.frombuffer(data, dtype, count, at)
        at += array.nbytes
        return array

    for entry in entries:
        shape, dtype = tuple(entry["shape"]), _dtype(entry["dtype"])
        if "bits" in entry:
            bits, scale_shape = entry["bits"], tuple(entry["scale"])
            words = jnp.asarray(take(-(-math.prod(shape) * bits // 8), np.uint8))
            scale = jnp.asarray(take(math.prod(scale_shape), dtype).reshape(scale_shape))
            scales = QuantizedWeights(None, scale, bits=bits, levels=entry["levels"])
            leaf = PackedWeights(words, scales, shape).unpack()
        else:
            leaf = jnp.asarray(take(math.prod(shape), dtype).reshape(shape))
        *folders, last = entry["name"].split("/")
        inside = root
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[last] = leaf
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes too many")
    return root


def _flat(tree, prefix):
    if not isinstance(tree, dict):
        raise ValueError(
            f"{prefix or 'params'} is a {type(tree).__name__}; only dicts nest here"
        )
    for key, value in tree.items():
        if not isinstance(key, str) or "/" in key:
            raise ValueError(f"key {key!r} must be a string without '/'")
        if isinstance(value, QuantizedWeights) or hasattr(value, "dtype"):
            yield prefix + key, value
        else:
            yield from _flat(value, f"{prefix}{key}/")


def _codes_of(leaf):
    return leaf.codes if isinstance(leaf, QuantizedWeights) else leaf


def _dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))
