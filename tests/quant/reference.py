"""Formats along an axis in float64 numpy, from their definitions; nothing of lpml."""

import ml_dtypes
import numpy as np


def fixed8(x, axis):
    """Multiples of 1/127, -128 to 127 of them."""
    return np.clip(np.round(x * 127), -128, 127) / 127


def e4m3(x, axis):
    return np.clip(x, -240, 240).astype(np.float32).astype(ml_dtypes.float8_e4m3).astype(float)


def mxfp4(x, axis):
    """E2M1 in blocks of 32 with 2^(floor(log2 max) - 2)."""

    def line(blocks):
        top = np.abs(blocks).max(-1, keepdims=True)
        scale = np.ldexp(1.0, np.frexp(top)[1] - 1 - 2)
        steps = (blocks / scale).astype(np.float32)
        return steps.astype(ml_dtypes.float4_e2m1fn).astype(float) * scale

    return _in_blocks(line, x, axis, 32)


def vsq(bits=4, *, tensor=False, signed=True):
    """Integers in blocks of 16, 4-bit integer scales, a float per line or for all."""
    most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    least = -most if signed else 0

    def whole(blocks):
        size = np.maximum(blocks, 0) if not signed else np.abs(blocks)
        scale = size.max(-1, keepdims=True) / most
        outer = scale.max() if tensor else scale.max(-2, keepdims=True)
        unit = outer / 15
        scale = np.clip(np.round(scale / unit), 1, 15) * unit
        return np.clip(np.round(blocks / scale), least, most) * scale

    return lambda x, axis: _in_blocks(whole, x, axis, 16)


def int8channel(x, axis):
    scale = np.abs(x).max(axis, keepdims=True) / 127
    return np.clip(np.round(x / scale), -127, 127) * scale


def _in_blocks(function, x, axis, block):
    """`function` of (..., blocks, block), the last block padded with zeros."""
    x = np.moveaxis(x, axis, -1)
    length = x.shape[-1]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -length % block)])
    blocks = padded.reshape(*x.shape[:-1], -1, block)
    found = function(np.where(blocks == 0, 1e-300, blocks)).reshape(padded.shape)
    return np.moveaxis(found[..., :length], -1, axis)


ROUND = {
    None: lambda x, axis: x,
    "fixed8": fixed8,
    "e4m3": e4m3,
    "mxfp4": mxfp4,
    "vsq4": vsq(),
    "vsq4t": vsq(tensor=True),
    "vsq3": vsq(3),
    "uvsq4": vsq(signed=False),
    "uvsq4t": vsq(signed=False, tensor=True),
    "int8channel": int8channel,
}
