"""A run on several processes: what those besides process 0 do, which write nothing."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lpml.parallel import processes
from lpml.training.assemble import assemble
from lpml.training.loop import Outputs, fit
from lpml.training.program import Program
from lpml.training.pure import Carry


def follow(config: Mapping[str, Any], *, should_stop: Callable[[], bool]) -> dict[str, float]:
    """Computes beside process 0, which claims the folder, logs and saves; see `run.train`."""
    program, schedule = assemble(config)
    done = processes.told(None)
    if done is not None:
        return done
    given, saved = processes.told(None)
    if given:
        carry = handed_out(program, jax.tree.map(_blank, program.shapes()))
    else:
        carry = program.init(config["seed"])
    quiet: Any = Quiet(saved)
    # the newest may not be written yet when process 0 is lost; the one before it stays
    processes.know_checkpoints(lambda: quiet.steps()[:-1])
    fit(
        program,
        carry,
        schedule,
        outputs=Outputs(quiet, quiet, quiet),
        start=int(carry.state.step),
        should_stop=should_stop,
    )
    return processes.told(None)


def _blank(like):
    if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return np.zeros(like.shape, like.dtype)


def handed_out(program: Program, carry: Carry) -> Carry:
    """Process 0's carry, laid where the program wants it; every process must call it."""
    key = carry.state.key
    words = carry.replace(state=carry.state.replace(key=jax.random.key_data(key)))
    placed = program.laid(processes.shared(words))
    key = jax.random.wrap_key_data(placed.state.key, impl=jax.random.key_impl(key))
    return placed.replace(state=placed.state.replace(key=key))


class Quiet:
    """Takes what process 0 writes, and only remembers the steps that it saves."""

    def __init__(self, saved: list[int]):
        self._saved = list(saved)

    def save(self, step: int, tree: Any) -> None:
        """Process 0 saves."""
        del tree
        self._saved.append(step)

    def steps(self) -> list[int]:
        """The steps of which process 0 has, or is just writing, a checkpoint."""
        return self._saved

    def append(self, step: int, values: Any) -> None:
        """Process 0 logs."""

    def scalars(self, step: int, values: Any) -> None:
        """Process 0 logs."""
