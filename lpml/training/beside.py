"""What the host does for an optimizer beside the steps; see `loop.Beside`."""

from typing import Any

import optax

from lpml.optim import HostRefreshedTransformation, RootRefresher, RootsFailed
from lpml.training.endings import RunFailed


class Nothing:
    """Beside the steps nothing happens; a `loop.Beside`.

    Attributes:
      alone: why a training cannot share a program with others, or the empty string.
    """

    alone = ""

    def next_step(self, step: int) -> int | None:
        """Never."""
        del step
        return None

    def act(self, carry: Any, step: int) -> Any:
        """The carry as it is."""
        del step
        return carry

    def saved(self, carry: Any) -> Any:
        """The carry is all there is."""
        return carry

    def shapes(self, carry: Any) -> Any:
        """`saved`, of shapes."""
        return carry

    def resumed(self, carry: Any) -> Any:
        """The carry is all there was."""
        return carry

    def report(self) -> dict[str, float]:
        """No numbers."""
        return {}

    def close(self) -> None:
        """Nothing to let go of."""


class HostRoots(Nothing):
    """A `RootRefresher` beside the steps of a training.

    Checkpoints hold the roots that are computed but not in use yet, so that a resumed run swaps
    them in at the step at which the first one would have done so.
    """

    alone = "the host renews the roots of each by itself"

    def __init__(self, tx: HostRefreshedTransformation):
        self._tx = tx
        self._open: RootRefresher | None = None

    @property
    def _refresher(self):
        if self._open is None:
            self._open = RootRefresher(self._tx)
        return self._open

    def next_step(self, step: int) -> int:
        """When a snapshot is due, or roots are."""
        return self._refresher.next_step(step)

    def act(self, carry: Any, step: int) -> Any:
        """Takes a snapshot, or puts roots in, where that is due; raises RunFailed."""
        try:
            opt_state = self._refresher.after_step(step, carry.state.opt_state)
        except RootsFailed as error:
            raise RunFailed(str(error)) from error
        return carry.replace(state=carry.state.replace(opt_state=opt_state))

    def saved(self, carry: Any) -> Any:
        """The carry with the roots on their way."""
        return carry.replace(beside=self._refresher.in_flight(carry.state.opt_state))

    def shapes(self, carry: Any) -> Any:
        """`saved`, of shapes."""
        return carry.replace(beside=self._refresher.shapes(carry.state.opt_state))

    def resumed(self, carry: Any) -> Any:
        """Takes the roots on their way out of a restored carry; a fresh one has none."""
        if carry.beside is not None:
            self._refresher.load(carry.beside)
        return carry.replace(beside=None)

    def report(self) -> dict[str, float]:
        """Waiting, failures and replacements."""
        return self._refresher.report()

    def close(self) -> None:
        """Ends the workers; a later call of anything begins anew."""
        if self._open is not None:
            self._open.close()
        self._open = None


def beside(tx: optax.GradientTransformation) -> Nothing:
    """What happens on the host beside the steps of this transformation."""
    return HostRoots(tx) if isinstance(tx, HostRefreshedTransformation) else Nothing()
