"""Products of arrays in two number formats, accumulated as one of several machines would."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lpml.formats.contraction import MATMUL, Dimensions, as_matrices, check_shapes, layout_of
from lpml.formats.exact import LONGEST_RESULT, exact_matmul
from lpml.formats.exsdotp import FLOAT32, expanding_matmul, unit_of
from lpml.formats.fixed import Fixed
from lpml.formats.gradients import attach_gradient
from lpml.formats.minifloat import Minifloat
from lpml.formats.names import by_name
from lpml.formats.posit import Posit
from lpml.formats.protocol import Format, wide_dtype
from lpml.formats.quire import quire_matmul
from lpml.formats.scaled import Scaled
from lpml.formats.show import describe
from lpml.formats.vsq_dot import vsq_matmul

MOST_INTEGER_BITS = 8


def matmul(a: jax.Array, b: jax.Array, fa: Any, fb: Any = None, **options: Any) -> jax.Array:
    """`dot_general` of matrices (m, k) and (k, n); `options` are its `dot` and `into`."""
    check_shapes(a, b)
    return dot_general(a, b, fa, fb, **options)


def dot_general(
    a: jax.Array,
    b: jax.Array,
    fa: Format | str,
    fb: Format | str | None = None,
    dot: str = "float32",
    *,
    dimension_numbers: Dimensions = MATMUL,
    into: Format | str | None = None,
) -> jax.Array:
    """Rounds `a` and `b` to formats, to nearest, and multiplies them as `dot` says.

    The modes, and the formats they take:
      `"float32"`: any; a float32 matmul of the rounded values.
      `"exact"`: two Posits, or two Minifloats of at most 14 mantissa bits (any under x64);
        an exact sum, rounded once. `"quire"` is the same for Posits only.
      `"integer"`: two Fixed of at most 8 bits, int8 x int8 -> int32, the scales last; or two
        two-level Scaled integers (`VSQ`), see `vsq_matmul`.
      `"exsdotp"`, `"exfma"`: Minifloats of one kind, see `expanding_matmul`.

    Derivatives are the float32 product's of the rounded values, in every mode, and rounding's
    straight-through: cotangents go to a as g b^T, with b as rounded, and to b alike.

    Args:
      a: floats.
      b: floats.
      fa: format of `a`, or its name. Blocks of a Scaled lie along the contracted axis, or all
        contracted axes read as one; each batch element has its own outer scale.
      fb: format of `b`; None: the same.
      dot: mode.
      dimension_numbers: as of `jax.lax.dot_general`, by default those of a matrix product;
        the result's axes too: batch, rest of `a`, rest of `b`.
      into: format that the exact and expanding sums are rounded to: a Minifloat (default:
        float32 where exact, else see `exsdotp`); of Posits it is theirs.

    Returns:
      Values, float32; float64 where an operand is.

    Raises:
      ValueError: an unknown mode or format, formats that the mode does not take, axes that
        do not match.
    """
    fa = by_name(fa) if isinstance(fa, str) else fa
    fb = by_name(fb) if isinstance(fb, str) else fa if fb is None else fb
    for name, fmt in (("fa", fa), ("fb", fb)):
        if not hasattr(fmt, "round"):
            raise ValueError(f"{name} = {fmt!r} must be a number format, or the name of one")
    into = by_name(into) if isinstance(into, str) else into
    mode = MODES.get(dot)
    if mode is None:
        raise ValueError(f"dot {dot!r} does not exist; choose from {', '.join(MODES)}")
    if not mode.takes(fa, fb):
        raise ValueError(
            f"dot {dot!r} does not multiply {describe(fa)} and {describe(fb)}: it takes"
            f" {mode.formats}, and 'float32' takes all"
        )
    if into is not None and not mode.has_into:
        raise ValueError(f"dot {dot!r} rounds its sums to no format of choice; leave into away")
    layout = layout_of(a.shape, b.shape, dimension_numbers)
    left, right = as_matrices(a, b, layout)
    wide = wide_dtype(jnp.result_type(a, b))

    def product(x, y):
        value = _float_product(fa, fb, x.astype(wide), y.astype(wide))
        if mode.compute is None:
            return value
        fixed = (lax.stop_gradient(operand).astype(wide) for operand in (x, y))
        found = mode.compute(*fixed, fa, fb, into)
        return attach_gradient(value, found.astype(wide), "straight_through")

    batched = jax.vmap(product) if layout.batch else product
    return batched(left, right).reshape(layout.result)


class _Mode(NamedTuple):
    formats: str  # in words, for the error
    takes: Callable[[Any, Any], bool]
    compute: Callable[..., jax.Array] | None  # None: the float product
    has_into: bool = False


def _float_product(fa, fb, x, y):
    rounded = _rounded(fa, x, axis=-1), _rounded(fb, y, axis=-2)
    return jnp.matmul(*rounded, precision=lax.Precision.HIGHEST)


def _rounded(fmt, x, *, axis):
    return fmt.round(x, axis=axis) if isinstance(fmt, Scaled) else fmt.round(x)


def _exact(x, y, fa, fb, into):
    if isinstance(fa, Posit):
        codes = quire_matmul(fa, fa.encode(x), fb.encode(y))
        return fa.decode(codes, x.dtype)
    into = FLOAT32 if into is None else into
    if not _exact_result(into):
        raise ValueError(
            f"exact sums are not rounded to {describe(into)}: take a Minifloat of at most"
            f" {LONGEST_RESULT} significant bits, or float32"
        )
    longest = max(fa.mantissa_bits, fb.mantissa_bits) + 1
    return exact_matmul(fa.round(x), fb.round(y), into=into, significand=longest)


def _integer(x, y, fa, fb, into):
    # integers have no NaN: it must not become a number on the way
    lost = jnp.isnan(x).any(1)[:, None] | jnp.isnan(y).any(0)
    return jnp.where(lost, jnp.nan, _integer_product(x, y, fa, fb, into))


def _integer_product(x, y, fa, fb, _):
    if isinstance(fa, Scaled):
        return vsq_matmul(fa.encode(x, axis=-1), fb.encode(y, axis=-2), fa, fb)
    most = x.shape[1] * 2 ** (fa.static_bits + fb.static_bits - 2)
    if most > 2**31 - 1:
        raise ValueError(
            f"{x.shape[1]} products of {fa.static_bits} and {fb.static_bits} bits may exceed"
            " int32; use fewer bits or a shorter axis"
        )
    codes = lax.dot_general(
        fa.encode(x), fb.encode(y), MATMUL, preferred_element_type=jnp.int32
    )
    # one factor: compilers join two, and the rounding of two products would show
    scale = jnp.asarray(fa.scale, x.dtype) * jnp.asarray(fb.scale, x.dtype)
    return codes.astype(x.dtype) * scale


def _expanding(x, y, fa, fb, into, *, unit):
    return expanding_matmul(fa.round(x), fb.round(y), source=fa, into=into, unit=unit)


def _known_pair(kind, fa, fb):
    known = (isinstance(fmt, kind) and fmt.static_bits is not None for fmt in (fa, fb))
    return all(known)


def _posits(fa, fb):
    return _known_pair(Posit, fa, fb) and fa == fb


def _exact_pair(fa, fb):
    return _posits(fa, fb) or _known_pair(Minifloat, fa, fb)


def _exact_result(into):
    known = isinstance(into, Minifloat) and into.static_bits is not None
    return known and (into == FLOAT32 or into.mantissa_bits < LONGEST_RESULT)


def _integers(fa, fb):
    if isinstance(fa, Scaled) and isinstance(fb, Scaled):
        return fa.outer is not None and fb.outer is not None
    if not _known_pair(Fixed, fa, fb):
        return False
    return all(
        fmt.static_bits <= MOST_INTEGER_BITS
        and fmt.code_dtype == jnp.int8
        and jnp.ndim(fmt.scale) == 0
        for fmt in (fa, fb)
    )


def _expanding_pair(fa, fb):
    if not _known_pair(Minifloat, fa, fb) or fa != fb:
        return False
    try:
        unit_of(fa)
    except ValueError:
        return False
    return True


_WORDS_EXPANDING = "two Minifloats of one kind, of at most 12 significant bits"
MODES = {
    "float32": _Mode("all formats", lambda *_: True, None),
    "exact": _Mode("two equal Posits, or two Minifloats", _exact_pair, _exact, True),
    "quire": _Mode("two equal Posits", _posits, _exact),
    "integer": _Mode(
        "two Fixed of at most 8 bits and one scale, or two two-level Scaled such as VSQ",
        _integers,
        _integer,
    ),
    "exsdotp": _Mode(
        _WORDS_EXPANDING, _expanding_pair, functools.partial(_expanding, unit="exsdotp"), True
    ),
    "exfma": _Mode(
        _WORDS_EXPANDING, _expanding_pair, functools.partial(_expanding, unit="exfma"), True
    ),
}
