"""What an experiment says of itself: its docstring, its paper, the time it takes."""

import inspect
from types import ModuleType
from typing import NamedTuple

from lpml.runs import Paper

# The chapter of what reproduces no paper.
NO_PAPER = Paper("Other experiments", authors="", venue="")
MINUTES = 10.0  # of an experiment that does not say its own: only the order depends on it
# The paragraph of a docstring that discusses the claims that fail.
FAILING = "Where it fails:"


class Description(NamedTuple):
    """An experiment in words.

    Attributes:
      name: its file's.
      module: its file, imported.
      claim: the first line of its docstring.
      about: the further paragraphs, each in one line, commands left out.
      failing: the paragraph that begins with `Where it fails:`; may be empty.
      paper: what it reproduces a figure of, `NO_PAPER` if it does not say.
      minutes: what it takes at the default size on two CPU cores, > 0.
    """

    name: str
    module: ModuleType
    claim: str
    about: tuple[str, ...]
    failing: str
    paper: Paper
    minutes: float

    def command(self, size: str) -> str:
        """The command that makes the figure at a size."""
        ending = "" if size == "default" else f" --size={size}"
        return f"python launch.py --experiment={self.name}{ending}"


def describe(name: str, module: ModuleType) -> Description:
    """The description of an experiment."""
    blocks = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    claim, *about = [" ".join(block.split()) for block in blocks if block[:1] != " "]
    failing = " ".join(text for text in about if text.startswith(FAILING))
    paper, minutes = getattr(module, "PAPER", NO_PAPER), getattr(module, "MINUTES", MINUTES)
    return Description(name, module, claim, tuple(about), failing, paper, minutes)
