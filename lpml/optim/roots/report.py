"""What every solver takes and gives: the damping of a matrix, and a root with its proof."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

KINDS = ("relative", "absolute", "truncate")


@dataclasses.dataclass(frozen=True)
class Damping:
    """What keeps the inverse of a (nearly) singular matrix A finite.

    With w the eigenvalues of A, negative ones (rounding errors of a statistic) taken as 0:

        relative:  w + epsilon max(w)            in the units of A, whatever these are
        absolute:  w + epsilon
        truncate:  w where w > epsilon max(w); the other directions get the weight 0

    There is no floor below max(w): a root scales with its matrix, root(c A) = c^(-1/p) root(A),
    and a matrix of zeros has none unless the damping is absolute.

    Args:
      kind: one of the three.
      epsilon: >= 0; float32 needs 1e-6 for a usable root of a badly conditioned matrix,
        float64 admits 1e-12. May be traced in a program, and is not checked then.
    """

    kind: str = "relative"
    epsilon: float | jax.Array = 1e-6

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"damping {self.kind!r} does not exist; choose {', '.join(KINDS)}")
        known = isinstance(self.epsilon, (int, float))
        if known and not 0 <= self.epsilon < float("inf"):
            raise ValueError(f"epsilon = {self.epsilon} of the damping must be >= 0 and finite")

    @property
    def truncates(self) -> bool:
        """Whether small eigenvalues are dropped, where the other kinds add a ridge."""
        return self.kind == "truncate"

    def ridge(self, largest: Any, unit: Any) -> Any:
        """What is added to the eigenvalues (the threshold, where they are truncated).

        Args:
          largest: the largest eigenvalue of A / unit.
          unit: what A was divided by, so that an absolute epsilon is divided by it too.
        """
        return self.epsilon / unit if self.kind == "absolute" else self.epsilon * largest

    def raised(self, factor: float) -> "Damping":
        """The same with a larger epsilon."""
        return dataclasses.replace(self, epsilon=self.epsilon * factor)


class RootReport(NamedTuple):
    """Roots of K matrices; arrays of numpy from the host, of jax inside of a program.

    A root that is not `ok` is to be thrown away. It is finite all the same (the identity, where
    the solver made NaN), so that a caller who forgets the flag does not spread NaN.
    """

    root: Any  # [K, b, b] X ~ D^(-1/p), D the damped matrix; symmetric, of A's dtype
    ok: Any  # [K] bool: A and X are finite and the residual is within the tolerance
    residual: Any  # [K] max |X^p D - I|, by the products themselves
    error: Any  # [K] the same as the solver sees it, which may be far from it
    iterations: Any  # [K] int32; 0 of a decomposition
    epsilon: Any  # [K] of the damping that this root was made with


def accepted(old: jax.Array, new: jax.Array, ok: jax.Array) -> jax.Array:
    """The new roots where `ok` [K], else the old ones bit for bit; old and new [K, b, b].

    It selects. A weighted mean with weights 0 and 1 would not do: 0 * NaN is NaN.
    """
    return jnp.where(ok[:, None, None], new.astype(old.dtype), old)


def check_exponent(p: float, *, whole: bool) -> None:
    """Raises ValueError unless p >= 1, and an integer where products are to make X^p."""
    if not 1 <= p < float("inf"):
        raise ValueError(f"p = {p} of the root A^(-1/p) must be at least 1 and finite")
    if whole and p != int(p):
        raise ValueError(f"p = {p} must be an integer here; host_roots by eigh takes any p")


def check_stack(shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the shape is [K, b, b] with b >= 1."""
    if len(shape) != 3 or shape[1] != shape[2] or not shape[1]:
        raise ValueError(
            f"roots are of a stack of square matrices [K, b, b], not {list(shape)}"
        )
