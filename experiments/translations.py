"""Translation by several optimizers: their points, what came out, how it is drawn and judged.

Every method has as many learning rates, a factor of about 3 apart, with every seed; that of
the lowest validation loss at the end, on the mean over the seeds, is the method's own. Seconds
are the steps' alone, of runs that had the machine to themselves: neither compilation nor
evaluation, and the same for every rate and seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.curves import in_words
from experiments.rates import bracketed
from experiments.style import log_axes, plain_ticks
from lpml.runs import Point, Run, Verdict, judge, judge_mean

CONFIG = "configs/shampoo_translation.py"


class Method(NamedTuple):
    """An optimizer of the comparison and its look, told apart in grey by line and marker."""

    slug: str
    label: str
    color: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str


SHAMPOO = Method("shampoo", "Shampoo", "#D55E00", "-", "o")
ADAM = Method("adam", "Adam", "#0072B2", "--", "^")
ADAGRAD = Method("adagrad", "AdaGrad", "#E69F00", "-.", "s")
MOMENTUM = Method("momentum", "momentum SGD", "#000000", ":", "D")
MUON = Method("muon", "Muon", "#009E73", (0, (3, 1, 1, 1)), "v")
METHODS = (SHAMPOO, ADAM, ADAGRAD, MOMENTUM, MUON)


class Plan(NamedTuple):
    """What is run.

    Attributes:
      size: of the config.
      rates: learning rates by method.
      seeds: of every rate.
      timed_steps: of the runs that are timed.
      settings: overrides of the config for all runs.
    """

    size: str
    rates: Mapping[str, Sequence[float]]
    seeds: Sequence[int]
    timed_steps: int
    settings: Mapping[str, Any] = {}


class Curve(NamedTuple):
    """Lines of one log from step 0 on: validation losses (nats a piece) and BLEU (percent)."""

    steps: np.ndarray
    loss: np.ndarray
    bleu: np.ndarray


class Trained(NamedTuple):
    """What came out.

    Attributes:
      curves: by (method, rate) and seed.
      seconds: of one step, at every line of the timed run but the first, by method.
    """

    curves: dict[tuple[str, float], dict[int, Curve]]
    seconds: dict[str, np.ndarray]

    def rates(self, method: Method) -> list[float]:
        """The method's learning rates, growing."""
        return sorted(rate for slug, rate in self.curves if slug == method.slug)

    def ends(self, method: Method, rate: float) -> dict[int, float]:
        """Validation losses at the end, by seed."""
        by_seed = self.curves[method.slug, rate]
        return {seed: float(curve.loss[-1]) for seed, curve in by_seed.items()}

    def rate(self, method: Method) -> float:
        """The rate with the lowest mean loss at the end."""
        return min(
            self.rates(method), key=lambda rate: np.mean(list(self.ends(method, rate).values()))
        )

    def best(self, method: Method) -> dict[int, Curve]:
        """The curves of the method's own rate, by seed."""
        return self.curves[method.slug, self.rate(method)]

    def seconds_per_step(self, method: Method) -> float:
        """The median of the timed lines."""
        return float(np.median(self.seconds[method.slug]))

    def speedup(self, method: Method, other: Method, *, in_time: bool) -> dict[int, float]:
        """Steps (or seconds) of `other` to its lowest loss over those of `method`, by seed.

        0 where `method` does not get there.
        """
        price = self.seconds_per_step(other) / self.seconds_per_step(method) if in_time else 1.0
        found = {}
        for seed, curve in self.best(other).items():
            lowest = int(np.argmin(curve.loss))
            needed = steps_to(self.best(method)[seed], float(curve.loss[lowest]))
            found[seed] = price * float(curve.steps[lowest]) / needed
        return found


def steps_to(curve: Curve, loss: float) -> float:
    """Steps until a curve is at a loss, on straight lines between its lines; or infinity."""
    there = np.flatnonzero(curve.loss <= loss)
    if not len(there):
        return np.inf
    i = int(there[0])
    if not i:
        return float(curve.steps[0])
    share = (curve.loss[i - 1] - loss) / (curve.loss[i - 1] - curve.loss[i])
    return float(curve.steps[i - 1] + share * (curve.steps[i] - curve.steps[i - 1]))


def points(plan: Plan) -> list[Point]:
    """Every method at every rate with every seed, then one timed run of each."""
    trained = [
        Point(
            f"{method.slug}-rate{rate:g}-seed{seed}",
            f"{CONFIG}:{method.slug},{plan.size}",
            {**plan.settings, "optim.learning_rate": rate, "seed": seed},
        )
        for seed in plan.seeds
        for method in METHODS
        for rate in plan.rates[method.slug]
    ]
    timed = [
        # another number of steps, so that it shares its program, and its seconds, with nobody
        Point(
            f"{method.slug}-timed",
            f"{CONFIG}:{method.slug},{plan.size}",
            {
                **plan.settings,
                "train.steps": plan.timed_steps,
                "train.checkpoint_every": plan.timed_steps,
                "train.bleu": 1,
                "train.log_every": plan.timed_steps // 10,
            },
        )
        for method in METHODS
    ]
    return trained + timed


def load(finished: Mapping[str, Run]) -> Trained:
    """Curves and seconds, from runs that are named as `points` names them."""
    found = Trained({}, {})
    for name, run in finished.items():
        method = run.config["optim"]["name"]
        if name.endswith("-timed"):
            # the first line's steps may be those of the call that compiled
            found.seconds[method] = 1 / run.series("steps_per_second")[1][1:]
            continue
        steps, loss = run.series("test_loss")
        key = method, run.config["optim"]["learning_rate"]
        curve = Curve(steps, loss, run.series("test_bleu")[1])
        found.curves.setdefault(key, {})[run.config["seed"]] = curve
    return found


def draw(trained: Trained, *, title: str) -> dict[str, Figure]:
    """Loss and BLEU against steps and seconds; and losses at the end by learning rate."""
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    rows = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, in_time in enumerate((False, True)):
        for method in METHODS:
            unit = trained.seconds_per_step(method) if in_time else 1.0
            by_seed = trained.best(method).values()
            x = unit * next(iter(by_seed)).steps
            _band(rows[0, column], x, [c.loss for c in by_seed], method, log=True)
            _band(rows[1, column], x, [c.bleu for c in by_seed], method)
        rows[1, column].set_xlabel("seconds of steps" if in_time else "steps")
    for axes in rows.flat:
        axes.grid(True, color="0.88", linewidth=0.8)
        axes.set_axisbelow(True)
    rows[0, 0].set_yscale("log")
    log_axes(rows[0, 0])
    plain_ticks(rows[0, 0])
    rows[0, 0].set_ylabel("validation loss (nats a piece)")
    rows[1, 0].set_ylabel("BLEU of greedy translations, %")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside right center")
    seeds = len(trained.best(SHAMPOO))
    figure.suptitle(
        f"{title}, every method at its best rate\n(lines: means over {seeds} seeds, of losses "
        "geometric; bands: their range)"
    )
    return {"figure": figure, "rates": _draw_rates(trained, title)}


def _band(axes, x, rows, method, *, log=False):
    rows = np.stack(list(rows))
    mean = np.exp(np.log(rows).mean(0)) if log else rows.mean(0)
    axes.plot(
        x, mean, label=method.label, color=method.color, linestyle=method.line,
        marker=method.marker, markersize=5, markevery=max(1, len(x) // 6),
    )  # fmt: skip
    axes.fill_between(x, rows.min(0), rows.max(0), color=method.color, alpha=0.15, linewidth=0)


def _draw_rates(trained, title):
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for method in METHODS:
        rates = trained.rates(method)
        ends = np.array([list(trained.ends(method, rate).values()) for rate in rates])
        _band(axes, np.array(rates), ends.T, method, log=True)
    axes.set(xscale="log", yscale="log")
    log_axes(axes)
    plain_ticks(axes)
    axes.set(xlabel="learning rate", ylabel="validation loss at the end (nats a piece)")
    axes.set_title(f"{title}: what the choice of a rate costs")
    figure.legend(loc="outside right center")
    return figure


def check(trained: Trained) -> list[Verdict]:
    """Shampoo's claims against Adam, and against the methods that it should beat."""
    published = {
        False: "1.95 times fewer steps (WMT'14 English-French)",
        True: "1.67 times less time (WMT'14 English-French, first version)",
    }
    what = {False: "in fewer steps", True: "in less time"}
    verdicts = [
        _sooner(
            trained, SHAMPOO, ADAM, in_time=in_time,
            claim=f"Shampoo reaches Adam's best validation loss {what[in_time]}",
            paper=published[in_time],
        )
        for in_time in (False, True)
    ]  # fmt: skip
    for other in (ADAGRAD, MOMENTUM):
        claim = f"Shampoo reaches the best validation loss of {other.label} in fewer steps"
        verdicts.append(_sooner(trained, SHAMPOO, other, claim=claim))
    claim = "Muon reaches Adam's best validation loss in fewer steps"
    verdicts.append(_sooner(trained, MUON, ADAM, claim=claim))
    gained = {
        seed: float(curve.bleu[-1] - trained.best(ADAM)[seed].bleu[-1])
        for seed, curve in trained.best(SHAMPOO).items()
    }
    tried = {m.label: (trained.rate(m), trained.rates(m)) for m in METHODS}
    verdicts.append(bracketed("translation", tried, [*trained.best(SHAMPOO)]))
    claim = "BLEU at the end is not lower with Shampoo than with Adam, but for half a point"
    return [*verdicts, judge_mean(claim, gained, above=-0.5, unit=" points")]


def _sooner(
    trained: Trained, method: Method, other: Method, *, claim: str, in_time: bool = False,
    paper: str = "",
) -> Verdict:  # fmt: skip
    ratios = trained.speedup(method, other, in_time=in_time)
    return judge(
        claim,
        {seed: ratio > 1 for seed, ratio in ratios.items()},
        measured=_times(ratios.values(), "faster" if in_time else "fewer steps"),
        expected="more than 1 in each seed",
        paper=paper,
    )


def _times(ratios: Iterable[float], of: str) -> str:
    every = list(ratios)
    reached = [ratio for ratio in every if ratio > 0]
    if not reached:
        return "not reached"
    missed = len(every) - len(reached)
    return f"{in_words(reached)} times {of}" + (f", {missed} not reached" if missed else "")
