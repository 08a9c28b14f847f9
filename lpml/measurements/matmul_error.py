"""How far products of matrices are from exact, by number format and way of adding up."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats import Minifloat, Posit
from lpml.measurements.measurement import Lines, Measurement

WAYS = ("rounded", "fma", "quire", "float32")


def matmul_error(
    *, format: str = "posit32", sum: str = "quire", size: int = 256, limit: float = 1.0,
    trials: int = 1,
) -> Measurement:  # fmt: skip
    """Mean squared error of a product of two square matrices, against float64.

    Inputs are uniform in [-limit, limit] in float64 and rounded into the format, so the
    error of that rounding is in the result too; the reference is their float64 product
    before rounding (PERCIVAL's protocol). Trial t of a seed draws from `default_rng(seed + t)`.

    Args:
      format: a posit or a minifloat by its name (see `lpml.formats.by_name`).
      sum: "rounded": every product and every sum is rounded, in the order of the contracted
        index; "fma": every sum of a product and what came before (minifloats); "quire": the
        exact sum, rounded once; "float32": float32 products and sums of the rounded inputs,
        rounded to the format at the end.
      size: rows and columns, >= 1.
      limit: largest input, > 0.
      trials: pairs of matrices; each gives a line with the means so far.

    Raises:
      ValueError: an unknown way, a format that it does not take, a number out of range; wide
        posits, or minifloats but under "float32", without `precision = "float64"`.
    """
    fmt = formats.by_name(format)
    multiply = _multiplication(fmt, format, sum)
    if size < 1 or trials < 1 or not limit > 0:
        raise ValueError(
            f"size = {size}, trials = {trials} and limit = {limit} must be positive"
        )

    def lines(seed: int) -> Lines:
        found = []
        for trial in range(trials):
            random = np.random.default_rng(seed + trial)
            a, b = random.uniform(-limit, limit, (2, size, size))
            error = (np.asarray(multiply(a, b), np.float64) - a @ b) / limit**2
            found.append([np.mean(error**2), np.max(np.abs(error))])
            mean, largest = np.mean(found, axis=0)
            # errors in units of limit^2, so that their squares stay in range
            yield {"mse": mean * limit**4, "largest_error": largest * limit**2}

    return Measurement(lines, trials, ("mse", "largest_error"))


def _multiplication(fmt, name, way):
    if way not in WAYS:
        raise ValueError(f"sum {way!r} does not exist; choose from {', '.join(WAYS)}")
    kinds = (Posit,) if way == "quire" else (Posit, Minifloat)
    kinds = (Minifloat,) if way == "fma" else kinds
    if not isinstance(fmt, kinds):
        words = " or a ".join(kind.__name__.lower() for kind in kinds)
        raise ValueError(f"sum {way!r} takes a {words}, which {name} is not")
    wide = jnp.result_type(float) == jnp.float64
    if not wide and (fmt.static_bits > 16 or (isinstance(fmt, Minifloat) and way != "float32")):
        raise ValueError(f"sum {way!r} of {name} needs config.precision = 'float64'")
    if way == "float32":
        return jax.jit(lambda a, b: fmt.round(_float32_product(fmt.round(a), fmt.round(b))))
    if isinstance(fmt, Posit):
        matmul = formats.quire_matmul if way == "quire" else formats.rounded_matmul
        codes = jax.jit(lambda a, b: matmul(fmt, fmt.encode(a), fmt.encode(b)))
        return lambda a, b: fmt.decode(codes(a, b), a.dtype)
    return jax.jit(lambda a, b: _in_order(fmt, fmt.round(a), fmt.round(b), fused=way == "fma"))


def _float32_product(a, b):
    narrow = (x.astype(jnp.float32) for x in (a, b))
    return jnp.matmul(*narrow, precision=jax.lax.Precision.HIGHEST).astype(a.dtype)


def _in_order(fmt, a, b, *, fused):
    """Sums in the order of the contracted index, rounded to the format each time.

    Products of float32 are exact in float64. Sums are not: one in about 2^29 is rounded
    twice, to float64 and to the format, on a tie of the latter.
    """

    def step(so_far, column_and_row):
        column, row = column_and_row
        term = column[:, None] * row[None, :]
        return fmt.round(so_far + (term if fused else fmt.round(term))), None

    return jax.lax.scan(step, jnp.zeros((len(a), b.shape[1])), (a.T, b))[0]
