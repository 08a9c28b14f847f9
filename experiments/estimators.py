"""How the straight-through estimators look, the same in every figure."""

from typing import NamedTuple


class Look(NamedTuple):
    """An estimator by its name in configs, and how it is drawn."""

    name: str
    label: str
    color: str
    line: str
    marker: str


IDENTITY = Look("identity", "identity", "#D55E00", "-", "o")
RELU = Look("relu", "ReLU", "#0072B2", "--", "s")
CLIPPED = Look("clipped_relu", "clipped ReLU", "#009E73", ":", "^")
LOOKS = (IDENTITY, RELU, CLIPPED)
