"""What workers send in the experiments on the number of weights, and how it is drawn."""

from typing import NamedTuple


class Sent(NamedTuple):
    """Bits of the gradients (None: float32), where they are clipped, and their curve."""

    label: str
    slug: str
    bits: int | None
    clip: float | None
    color: str
    line: str
    marker: str


WHOLE = Sent("whole gradients", "whole", None, None, "#000000", "-", "o")
TWO = Sent("2 bits (SQ2)", "sq2", 2, None, "#D55E00", "--", "s")
CLIPPED = Sent("2 bits, clipped at 3$\\sigma$", "sq2clip", 2, 3.0, "#0072B2", "-.", "^")
FOUR = Sent("4 bits (SQ4)", "sq4", 4, None, "#E69F00", ":", "D")
THREE = Sent("3 bits (SQ3)", "sq3", 3, None, "#D55E00", "--", "s")
THREE_CLIPPED = Sent("3 bits, clipped at 3$\\sigma$", "sq3clip", 3, 3.0, "#0072B2", "-.", "^")
