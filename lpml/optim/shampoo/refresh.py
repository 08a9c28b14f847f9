"""New roots inside of the program, every so many steps."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lpml.optim.clock import Clock
from lpml.optim.roots import Damping, RootReport, eigh_roots, newton_roots
from lpml.optim.shampoo.blocks import Plan, exponent_of
from lpml.optim.shampoo.condition import only_when
from lpml.optim.shampoo.owners import Owners
from lpml.optim.shampoo.state import ShampooState, swapped
from lpml.optim.shampoo.storage import plain

Solver = Callable[..., RootReport]
SOLVERS: dict[str, Solver] = {"newton": newton_roots, "eigh": eigh_roots}
# by whom: with what, the default first
METHODS = {"program": tuple(SOLVERS), "host": ("eigh", "svd", "newton")}


@dataclasses.dataclass(frozen=True)
class Refreshing:
    """When and how roots are renewed.

    Args:
      every: steps between two refreshes, >= 1.
      start_at: the step (from 1) that the first roots are for, >= 1. Few gradients make
        matrices of low rank, whose roots are mostly damping. None is `every`.
      root: "newton", products only, or "eigh", one matrix after another; on the host also
        "svd". None is Newton in the program, where an accelerator multiplies fast, and eigh on
        the host.
      damping: of the matrices, see `Damping`.
      by: "program", in the step that it is due; "host", in float64 by a `RootRefresher`
        between two steps. Until it comes every update is the diagonal method's.

    Raises:
      ValueError: a number out of its range, or a word that is none of these.
    """

    every: int = 20
    start_at: int | None = None
    root: str | None = None
    damping: Damping = Damping(epsilon=1e-5)  # noqa: RUF009 (frozen)
    by: str = "program"

    def __post_init__(self):
        self.clock  # noqa: B018 (refuses what is out of range)
        if self.by not in METHODS:
            raise ValueError(f"refresh {self.by!r} does not exist; choose {', '.join(METHODS)}")
        if self.root is not None and self.root not in METHODS[self.by]:
            known = ", ".join(METHODS[self.by])
            raise ValueError(
                f"root {self.root!r} does not exist with refresh {self.by!r}; choose {known}"
            )
        if self.method == "newton" and self.damping.truncates:
            raise ValueError(
                "damping 'truncate' needs eigenvalues, which root 'newton' does not know: take "
                "root 'eigh'"
            )

    @property
    def method(self) -> str:
        """The solver, None resolved."""
        return self.root or METHODS[self.by][0]

    @property
    def clock(self) -> Clock:
        """The steps that renew the roots."""
        return Clock(self.every, self.start_at)


def refreshed(
    state: ShampooState, refreshing: Refreshing, plan: Plan, owners: Owners
) -> ShampooState:
    """The state with the roots of its own statistics if that is due at step + 1.

    Every owner solves for its own; rows of a stack beyond the plan's are never accepted.
    """
    if refreshing.by == "host" or not state.stats:
        return state
    solver, kind = SOLVERS[refreshing.method], refreshing.damping.kind

    def solve(stats, epsilon):
        damping = Damping(kind, epsilon)
        found = {
            name: solver(stack, exponent_of(name), damping=damping)
            for name, stack in plain(stats).items()
        }
        roots = {name: report.root for name, report in found.items()}
        return roots, {name: report.ok for name, report in found.items()}

    def renew(state, epsilon):
        roots, ok = owners.on_each(solve, state.stats, epsilon)
        ok = {name: _real(flags, plan.stacks[name].number) for name, flags in ok.items()}
        return _changing(swapped(state, roots, ok, roots_from=state.step + 1))

    due = refreshing.clock.due(state.step + 1)
    epsilon = jnp.asarray(refreshing.damping.epsilon, jnp.result_type(float))
    renewed = only_when(
        due, renew, lambda state, _: _changing(state), state._replace(graft=()), epsilon
    )
    return renewed._replace(stats=state.stats, graft=state.graft)


def _real(ok: jax.Array, number: int) -> jax.Array:
    """Without the roots that an absolute damping finds for rows of zeros beyond `number`."""
    return ok if len(ok) == number else ok & (jnp.arange(len(ok)) < number)


def _changing(state: ShampooState) -> ShampooState:
    """Without what a refresh only reads, lest a condition copy it at every step."""
    return state._replace(stats={}, graft=())
