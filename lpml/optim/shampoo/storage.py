"""How a state holds its stacks of matrices: in floats, or in codes of a few bits."""

import dataclasses

import jax
import jax.numpy as jnp

from lpml.formats import Format, Scaled
from lpml.optim.periodic import require_key
from lpml.optim.shampoo.coded import FORMS, Coded, Coding, decoded, encoded, words_for
from lpml.optim.shampoo.kronecker import Stacks, accumulated, joined

# As `Stacks`, but what the state holds of each: floats [K, b, b], or codes of them.
Held = dict[str, jax.Array | Coded]

ROUNDINGS = ("stochastic", "nearest")
Named = str | Format | Scaled | None


@dataclasses.dataclass(frozen=True)
class Storage:
    """What statistics and roots are held in.

    Args:
      statistics: a name of `lpml.formats.by_name` or a format, of a known width; None holds
        them as they are computed, in at least float32.
      roots: the same of the roots, which are always rounded to nearest.
      form: "factor" codes Cholesky factors, "entries" the matrices themselves (see
        `lpml.optim.shampoo.coded`): half an operation, but indefinite where rounding errors
        exceed the least eigenvalue, so `Damping` has to be larger than these.
      rounding: of the statistics: "stochastic", for which update needs the extra argument
        `key`, or "nearest", which loses what a step adds where that is below half a spacing.

    Raises:
      ValueError: a word or format that does not exist.
    """

    statistics: Named = None
    roots: Named = None
    form: str = "factor"
    rounding: str = "stochastic"

    def __post_init__(self):
        if self.rounding not in ROUNDINGS:
            raise ValueError(
                f"rounding {self.rounding!r} of a state does not exist; choose "
                f"{', '.join(ROUNDINGS)}"
            )
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r} does not exist; choose {', '.join(FORMS)}")
        for fmt in (self.statistics, self.roots):
            if fmt is not None:
                Coding.named(fmt, self.form)

    def first(self, fmt: Named, stacks: Stacks) -> Held:
        """Stacks as they will be held in `fmt`, one of the two formats."""
        if fmt is None:
            return dict(stacks)
        coding = Coding.named(fmt, self.form)
        return {name: encoded(stack, coding) for name, stack in stacks.items()}

    def advanced(
        self, held: Held, new: Stacks, beta2: float | jax.Array, key: jax.Array | None
    ) -> Held:
        """`accumulated(held, new, beta2)`, in what the old ones are held in.

        A matrix that would not be finite stays as it was, bit for bit.
        """
        result: Held = {}
        for number, (name, old) in enumerate(held.items()):
            if not isinstance(old, Coded):
                result |= accumulated({name: old}, {name: new[name]}, beta2)
                continue
            words = None
            if self.rounding == "stochastic":
                # folded, lest another draws from the same one
                own = jax.random.fold_in(require_key(key, "a state in few bits"), 2 + number)
                words = words_for(old, own)
            total, finite = joined(decoded(old), new[name], beta2)
            fresh = encoded(total, old.coding, words=words)
            result[name] = chosen(finite[:, 0, 0], fresh, old)
        return result


def plain(held: Held) -> Stacks:
    """The matrices in floats; those that are floats are what they were."""
    return {
        name: decoded(stack) if isinstance(stack, Coded) else stack
        for name, stack in held.items()
    }


def in_manner_of(old: jax.Array | Coded, new: jax.Array) -> jax.Array | Coded:
    """Matrices [K, b, b] as `old` are held: in its coding, to nearest, or in its dtype."""
    if isinstance(old, Coded):
        return encoded(new.astype(old.diagonal.dtype), old.coding)
    return new.astype(old.dtype)


def chosen(ok: jax.Array, new: jax.Array | Coded, old: jax.Array | Coded) -> jax.Array | Coded:
    """New matrices where `ok` [K], else the old ones bit for bit, both held alike."""
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.expand_dims(ok, range(1, b.ndim)), a, b), new, old
    )


def diagonal_of(stack: jax.Array | Coded) -> jax.Array:
    """[K, b], exact in either case."""
    if isinstance(stack, Coded):
        return stack.diagonal
    return jnp.diagonal(stack, axis1=1, axis2=2)


def reached(stack: jax.Array | Coded) -> jax.Array:
    """[K] bool: the matrices that are not zero, because some gradient has reached them."""
    if isinstance(stack, Coded):
        return (stack.diagonal != 0).any(1)
    return (stack != 0).any((1, 2))
