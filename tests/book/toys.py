"""Experiments of one run each, and finished folders that nothing was trained for."""

import json
from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from lpml.runs import Paper, Point, judge
from lpml.sweep.publishing import to_png

CONFIG = str(Path(__file__).parents[2] / "configs" / "halp_regression.py")
PAPER = Paper("A Paper", "A. Uthor, B. Uthor", "Journal 1", "1234.56789")
OTHER = Paper("Another Paper", "C. Uthor", "Journal 2")


def toy(name="toy", *, steps=500, minutes=1.0, paper=PAPER, doc=None, calls=None):
    """A module like those of experiments/, with one run and one claim; `calls` notes it."""
    module = ModuleType(name, doc or f"The claim of {name}.\n\nWhat `{name}` is about.")
    module.PAPER, module.MINUTES = paper, minutes

    def runs(size):
        del size
        if calls is not None:
            calls.append(name)
        return [Point("sgd", f"{CONFIG}:sgd,tiny", {"train.steps": steps})]

    module.runs = runs
    module.load = lambda runs: runs["sgd"].final["grad_norm"]
    module.draw = lambda data: {"figure": Figure()}
    module.check = lambda data, size: [
        judge("it fell", {1: data < 1e9}, measured=f"{data}", expected="< 1e9")
    ]
    return module


def verdict(word="holds", claim="it fell", size="default", **fields):
    record = {"claim": claim, "verdict": word, "measured": "1 to 2", "expected": "< 3"}
    return {**record, "seeds": [1, 2], "size": size, **fields}


def finish(folder, *verdicts, pictures=("figure",), seconds=None):
    """A finished experiment with two runs; `seconds` of each, None for old ones."""
    for run, each in zip(("a", "b"), seconds or (None, None)):
        (folder / run).mkdir(parents=True)
        (folder / run / "config.json").write_text("{}")
        (folder / run / "DONE").write_text("{}")
        environment = {
            "devices": {"cpu": 1},
            "cpus": 2,
            "python": "3",
            "packages": {"jax": "1"},
        }
        (folder / run / "environment.json").write_text(json.dumps(environment))
        if each is not None:
            (folder / run / "time.json").write_text(json.dumps({"seconds": each}))
    for name in pictures:
        (folder / f"{name}.png").write_bytes(to_png(Figure(figsize=(2, 1))))
    (folder / "verdict.json").write_text(json.dumps(verdicts or [verdict()]))
