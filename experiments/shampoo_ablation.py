"""What Shampoo owes to grafting, to whole matrices, to the exponent and to exact roots.

Sections 3 and 4 of Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv
2002.09018: step lengths from a diagonal method, blocks (a loss in quality below 3 %), one-sided
roots for embeddings, roots in float64 on the host.

    python launch.py --experiment=shampoo_ablation
    python launch.py --experiment=shampoo_ablation --size=paper   (Tiny Shakespeare; a GPU)

One thing changes at a time, from RMSprop grafting, whole matrices, p = 4 and eigenvectors in
float32 every 20 steps. Kinds of grafting have lengths of their own, so each has three rates, a
factor sqrt(10) apart, and its best counts; all else has the middle one. The default size is one
layer of width 32 that learns a Markov chain of 64 characters in 150 steps: its widest axis,
128, falls into 2, 4 and 8 blocks. One-sided embeddings need more words than any other axis is
long, so that pair has 160 characters. Percents are of the test loss.

Where it fails: without grafting, old roots do not cost but gain, by 4 %: the length of a step
is then that of the roots, and old ones are smaller. Shorter training was not tried apart.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments import papers
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.SHAMPOO
MINUTES = 6  # of two CPU cores, default size

CONFIG = "configs/shampoo_characters.py"
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
SMALL = {
    "model.width": 32,
    "model.layers": 1,
    "data.context": 16,
    "data.classes": 64,
    "data.samples": 4096,
    "train.steps": 150,
    "train.log_every": 50,
    "train.checkpoint_every": 150,
}
SHARED: dict[str, dict[str, Any]] = {
    "tiny": {},
    "default": SMALL,
    "paper": {},
}
SHAMPOO: dict[str, dict[str, Any]] = {
    "tiny": {},
    "default": {"optim.root": "eigh"},
    "paper": {"optim.root": "eigh", "optim.block_size": 512},
}
# methods without roots, for comparison: their rates
OTHERS = {"adam": (0.01, 0.03, 0.1), "muon": (0.01, 0.03, 0.1)}
# of each kind of grafting, the likeliest in the middle
RATES = {
    "rmsprop": (0.01, 0.03, 0.1),
    "adam": (0.01, 0.03, 0.1),
    "adagrad": (0.1, 0.3, 1.0),
    "sgd": (3.0, 10.0, 30.0),
    "none": (0.01, 0.03, 0.1),
}
LOOKS = {
    "rmsprop": ("#D55E00", "-", "o"),
    "adam": ("#0072B2", "--", "s"),
    "adagrad": ("#E69F00", "-.", "^"),
    "sgd": ("#CC79A7", "--", "D"),
    "none": ("#000000", ":", "v"),
    "Adam itself": ("#666666", "-", "x"),
    "Muon": ("#009E73", "-", "P"),
}
WHOLE = {"tiny": 16, "default": 128, "paper": 512}
BLOCKS = {"tiny": (8,), "default": (64, 32, 16), "paper": (256, 128, 64, 32)}
EXPONENTS = (2, 8)
AGED = ("rmsprop", "none")
FRESH, STALE = 5, 50  # steps between two refreshes
ROOTS: dict[str, dict[str, Any]] = {
    "newton": {"optim.root": "newton"},
    "host": {"optim.root": "eigh", "optim.refresh": "host", "optim.delay": 0},
}
WORDS = {"data.classes": 160}
SIDES: dict[str, dict[str, Any]] = {"two": WORDS, "one": {**WORDS, "optim.max_dim": 128}}
BASE = "grafting_rmsprop"
LOST = 3.0  # percent of the test loss
ALIKE = 1.0
PERCENT = " %"


class Variation(NamedTuple):
    """What changes: a name `panel_value`, overrides of the config, rates to choose from."""

    slug: str
    settings: dict[str, Any]
    rates: tuple[float, ...]
    method: str = "shampoo"


def variations(size: str) -> list[Variation]:
    """All of a size; the base is RMSprop grafting."""
    rates = {kind: r[1:2] if size == "tiny" else r for kind, r in RATES.items()}
    middle = {kind: (r[1],) for kind, r in RATES.items()}
    found = [Variation(f"grafting_{k}", {"optim.grafting": k}, r) for k, r in rates.items()]
    found += [
        Variation(f"block_{b}", {"optim.block_size": b}, middle["rmsprop"])
        for b in BLOCKS[size]
    ]
    if size == "tiny":
        return found
    found += [Variation(f"other_{name}", {}, rates, name) for name, rates in OTHERS.items()]
    found += [
        Variation(
            f"{kind}_{every}",
            {"optim.grafting": kind, "optim.refresh_every": every},
            middle[kind],
        )
        for kind in AGED
        for every in (FRESH, STALE)
    ]
    found += [
        Variation(f"exponent_{p}", {"optim.exponent": p}, middle["rmsprop"]) for p in EXPONENTS
    ]
    found += [Variation(f"root_{name}", how, middle["rmsprop"]) for name, how in ROOTS.items()]
    if size == "default":
        found += [Variation(f"side_{s}", how, middle["rmsprop"]) for s, how in SIDES.items()]
    return found


def runs(size: str) -> list[Point]:
    """Every variation with all seeds."""
    return [
        Point(
            f"{variation.slug}-rate{rate:g}-seed{seed}",
            f"{CONFIG}:{variation.method},{size}",
            {
                **SHARED[size],
                **(SHAMPOO[size] if variation.method == "shampoo" else {}),
                **variation.settings,
                "optim.learning_rate": rate,
                "seed": seed,
            },
        )
        for variation in variations(size)
        for rate in variation.rates
        for seed in SEEDS[size]
    ]


class Losses(NamedTuple):
    """Test losses at the end (nats) by variation, rate and seed."""

    ends: dict[str, dict[float, dict[int, float]]]

    def best(self, slug: str) -> dict[int, float]:
        """Of the rate with the lowest mean, by seed."""
        return min(
            self.ends[slug].values(), key=lambda by_seed: np.mean(list(by_seed.values()))
        )

    def usual(self, slug: str) -> dict[int, float]:
        """Of the middle rate, which is the only one of most variations; by seed."""
        kind = "none" if "none" in slug else "rmsprop"
        return self.ends[slug][RATES[kind][1]]

    def lost(self, one: str, two: str = BASE) -> dict[int, float]:
        """Percent by which `one` is above `two`, both at the usual rate, seed by seed."""
        return percent_above(self.usual(one), self.usual(two))


def percent_above(high: dict[int, float], low: dict[int, float]) -> dict[int, float]:
    """100 (high / low - 1), seed by seed."""
    return {seed: 100 * (high[seed] / low[seed] - 1) for seed in high}


def load(finished: dict[str, Run]) -> Losses:
    """The last line of every log."""
    losses = Losses({})
    for name, run in finished.items():
        assert run.final is not None
        rates = losses.ends.setdefault(name.partition("-")[0], {})
        by_seed = rates.setdefault(run.config["optim"]["learning_rate"], {})
        by_seed[run.config["seed"]] = run.final["test_loss"]
    return losses


def draw(losses: Losses) -> dict[str, Figure]:
    """Loss by rate and kind of grafting, by age of roots; percents lost by all else."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    by_rate, by_age, others = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1.4))
    for kind in RATES:
        ends = losses.ends[f"grafting_{kind}"]
        _line(by_rate, sorted(ends), [ends[rate] for rate in sorted(ends)], kind)
    for name, kind in (("adam", "Adam itself"), ("muon", "Muon")):
        ends = losses.ends.get(f"other_{name}", {})
        if ends:
            _line(by_rate, sorted(ends), [ends[rate] for rate in sorted(ends)], kind)
    by_rate.set(xscale="log", xlabel="learning rate", title="grafting and others, all rates")
    by_rate.set_ylabel("test loss at the end (nats)")
    by_rate.legend()
    for kind in AGED:
        aged = {float(s.rpartition("_")[2]): s for s in losses.ends if s.startswith(f"{kind}_")}
        aged[20.0] = f"grafting_{kind}"
        _line(by_age, sorted(aged), [losses.usual(aged[age]) for age in sorted(aged)], kind)
    by_age.set(xscale="log", xlabel="steps between two refreshes", title="age of the roots")
    by_age.set_xticks(sorted(aged), [f"{age:g}" for age in sorted(aged)])
    by_age.xaxis.set_minor_locator(NullLocator())
    for axes in (by_rate, by_age):
        axes.grid(True, color="0.88")
        axes.set_axisbelow(True)
    slugs = [
        (slug, "side_two" if slug == "side_one" else BASE)
        for slug in losses.ends
        if slug.partition("_")[0] in ("block", "exponent", "root") or slug == "side_one"
    ]
    for place, (slug, against) in enumerate(slugs):
        values = list(losses.lost(slug, against).values())
        mean = np.mean(values)
        spread = [[mean - min(values)], [max(values) - mean]]
        others.errorbar([place], [mean], spread, color="#0072B2", marker="o", capsize=3)
    others.axhline(0, color="black", linewidth=1)
    others.axhline(LOST, color="0.4", linestyle="--", linewidth=1)
    others.set_xticks(
        range(len(slugs)), [slug.replace("_", " ") for slug, _ in slugs], rotation=40
    )
    others.set_ylabel("test loss above the base, percent")
    others.set_title("one thing changed")
    others.grid(True, axis="y", color="0.88")
    seeds = len(losses.best(BASE))
    figure.suptitle(f"Shampoo without one of its parts (mean and range of {seeds} seeds)")
    return {"figure": figure}


def _line(axes: Any, places: list[float], ends: list[dict[int, float]], kind: str) -> None:
    """Mean and range over the seeds at every place."""
    rows = np.array([list(by_seed.values()) for by_seed in ends])
    mean = rows.mean(1)
    color, line, marker = LOOKS[kind]
    axes.errorbar(
        places, mean, (mean - rows.min(1), rows.max(1) - mean), color=color, linestyle=line,
        marker=marker, capsize=3, label=kind,
    )  # fmt: skip


def check(losses: Losses, size: str) -> list[Verdict]:
    """What each part is worth, where the size has its variations."""
    verdicts = [
        judge_mean(
            "without grafting the test loss is above that with RMSprop's lengths, each at its "
            "best rate",
            percent_above(losses.best("grafting_none"), losses.best(BASE)),
            above=0, unit=PERCENT,
        ),
        *(
            judge_mean(
                f"in blocks of {block} at most {LOST:g} % of the test loss is lost (whole: "
                f"{WHOLE[size]})",
                losses.lost(f"block_{block}"), below=LOST, unit=PERCENT,
                paper="below 3 % in 2 or 4 blocks (translation)",
            )
            for block in BLOCKS[size]
        ),
    ]  # fmt: skip
    if size == "tiny":
        return verdicts
    aged = {kind: losses.lost(f"{kind}_{STALE}", f"{kind}_{FRESH}") for kind in AGED}
    verdicts += [
        judge_mean(
            f"roots every {STALE} steps instead of every {FRESH} cost more without grafting",
            {seed: aged["none"][seed] - aged["rmsprop"][seed] for seed in aged["none"]},
            above=0, unit=PERCENT,
        ),
        *(
            judge_mean(
                f"p = {p} for every axis ends above p = 4",
                losses.lost(f"exponent_{p}"), above=0, unit=PERCENT,
            )
            for p in EXPONENTS
        ),
        *(
            judge_mean(
                f"float32 roots by {how} end within {ALIKE:g} % of float64 ones",
                losses.lost(slug, "root_host"), above=-ALIKE, below=ALIKE, unit=PERCENT,
            )
            for how, slug in (("eigenvectors", BASE), ("Newton", "root_newton"))
        ),
    ]  # fmt: skip
    if "side_one" in losses.ends:
        verdicts.append(
            judge_mean(
                f"embeddings with roots on one side lose at most {LOST:g} % of the test loss",
                losses.lost("side_one", "side_two"), below=LOST, unit=PERCENT,
                paper="roots on one side: 20 % fewer steps than with none, each 6 % longer",
            )
        )  # fmt: skip
    return verdicts
