"""Codes of a few bits without gaps in bytes: what is sent or stored has its true size.

Bytes are made here, by shifts, and not left to integer types of fewer than eight bits:
compilers widen those before they send them.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Integer, UInt8

MOST_BITS = 8


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` codes: ceil(count * bits / 8)."""
    return -(-count * bits // 8)


def pack_codes(codes: Integer[Array, "*batch n"], bits: int) -> UInt8[Array, "*batch size"]:
    """Codes as a stream of bits along the last axis, `packed_size(n, bits)` bytes.

    Code i takes the bits i * bits to (i + 1) * bits - 1 of the stream, its lowest bit first;
    bit k of the stream is bit k % 8 of byte k // 8. Bits behind the last code are 0.

    Args:
      codes: (..., n) integers 0..2^bits - 1. Of others the lowest `bits` bits are taken, so
        codes in two's complement need no offset.
      bits: 1 to 8, static.

    Raises:
      ValueError: `bits` is no whole number from 1 to 8.
    """
    _check_bits(bits)
    group, width = _group(bits)
    count = codes.shape[-1]
    fields = codes.astype(jnp.uint8) & jnp.uint8(2**bits - 1)
    fields = _in_rows(fields, group)
    words = []
    for byte in range(width):
        word = jnp.zeros(fields.shape[:-1], jnp.uint8)
        for i in range(group):
            shift = i * bits - 8 * byte  # of the field against this byte
            if -bits < shift < 8:
                field = fields[..., i]
                word |= field << shift if shift >= 0 else field >> -shift
        words.append(word)
    flat = jnp.stack(words, axis=-1).reshape(*codes.shape[:-1], -1)
    return flat[..., : packed_size(count, bits)]


def unpack_codes(
    words: UInt8[Array, "*batch size"], bits: int, count: int
) -> Integer[Array, "*batch n"]:
    """The `count` codes of each row of `pack_codes`, int32 of 0..2^bits - 1.

    Raises:
      ValueError: `bits` is no whole number from 1 to 8, or rows have another size than
        `packed_size(count, bits)`.
    """
    _check_bits(bits)
    size = packed_size(count, bits)
    if words.shape[-1] != size:
        raise ValueError(
            f"{count} codes of {bits} bits are {size} bytes, and these rows have "
            f"{words.shape[-1]}"
        )
    group, width = _group(bits)
    rows = _in_rows(words, width)
    fields = []
    for i in range(group):
        byte, shift = divmod(i * bits, 8)
        field = rows[..., byte] >> shift
        if shift + bits > 8:
            field |= rows[..., byte + 1] << (8 - shift)
        fields.append(field & jnp.uint8(2**bits - 1))
    flat = jnp.stack(fields, axis=-1).reshape(*words.shape[:-1], -1)
    return flat[..., :count].astype(jnp.int32)


def _group(bits: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and how many bytes: (8, 3) for 3 bits."""
    shared = math.gcd(bits, 8)
    return 8 // shared, bits // shared


def _in_rows(flat, length):
    """(..., n) as (..., ceil(n / length), length), zeros behind the last."""
    missing = -flat.shape[-1] % length
    padded = jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, missing)])
    rows = padded.shape[-1] // length
    return padded.reshape(*flat.shape[:-1], rows, length)


def _check_bits(bits: int) -> None:
    whole = isinstance(bits, int) and not isinstance(bits, bool)
    if not whole or not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits = {bits!r} must be a whole number from 1 to {MOST_BITS}")
