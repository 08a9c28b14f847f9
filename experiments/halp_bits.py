"""Which bit widths let HALP converge, and the rule r < 1 that predicts it.

On the least-squares problem of `halp_regression`, mu fixed, 2 to 16 bits. Rounding alone
contracts the gradient norm by r = 0.32 tr(H) / (mu (2^(b-1) - 1)) per epoch when steps are
small against the grid (a random walk of T roundings against the pull of H), so HALP should
converge where r < 1.

    python launch.py --experiment=halp_bits

The rule is a threshold, not a rate: it leaves out what the steps gain and what the box clips.
Expected (mu 4, tr(H) 200): 8 bits and more converge at nearly SVRG's rate, 6 bits at 0.72 per
epoch (r = 0.52), 5 bits grow by 1.15 (r = 1.07), 4 bits double per epoch (r = 2.3).
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.HALP
MINUTES = 1  # of two CPU cores, default size

CONFIG = "configs/halp_regression.py"
SEEDS = (1, 2, 3)
ORANGE, BLUE = "#D55E00", "#0072B2"
BITS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
# Epochs over which the factor per epoch is measured: after the start, before any floor.
FIRST, LAST = 4, 20


class Widths(NamedTuple):
    """Gradient norms by bits and seed, arrays over the epochs; and the rule's constants."""

    norms: dict[int, dict[int, np.ndarray]]
    mu: float
    trace: float  # tr(H) in expectation: 2 per standard normal feature

    def rate(self, bits: int) -> dict[int, float]:
        """Measured factor per epoch, by seed."""
        span = LAST - FIRST
        return {
            s: float((v[LAST] / v[FIRST]) ** (1 / span)) for s, v in self.norms[bits].items()
        }

    def rule(self, bits: np.ndarray | int) -> np.ndarray:
        """r = 0.32 tr(H) / (mu (2^(b-1) - 1))."""
        return 0.32 * self.trace / (self.mu * (2.0 ** (np.asarray(bits) - 1) - 1))


def runs(size: str) -> list[Point]:
    """Every width, three seeds; widths that grow run shorter, before they overflow."""
    inner_steps = 200 if size == "tiny" else 2000
    return [
        Point(
            f"bits{bits}-seed{seed}",
            f"{CONFIG}:halp,{size}",
            {
                "optim.bits": bits,
                "seed": seed,
                "train.steps": inner_steps * (LAST if bits < 6 else 45),
            },
        )
        for bits in BITS
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Widths:
    """Gradient norms at the end of every outer epoch."""
    norms: dict[int, dict[int, np.ndarray]] = {}
    mu = trace = 0.0
    for run in finished.values():
        optim = run.config["optim"]
        mu, trace = float(optim["mu"]), 2.0 * run.config["data"]["features"]
        norms.setdefault(optim["bits"], {})[run.config["seed"]] = run.series("grad_norm")[1]
    return Widths(norms, mu, trace)


def draw(widths: Widths) -> dict[str, Figure]:
    """Left: factor per epoch beside the rule. Right: the gradient norm reached."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    rates, ends = figure.subplots(1, 2)
    _draw_rates(rates, widths)
    _draw_ends(ends, widths)
    for axes in (rates, ends):
        axes.set_xlabel("bits of a code")
        axes.set_xticks(range(2, 17, 2))
        axes.legend()
    title = f"HALP on linear regression, mu = {widths.mu:g}"
    figure.suptitle(f"{title} (geometric mean and range over {len(SEEDS)} seeds)")
    return {"figure": figure}


def _draw_rates(axes, widths):
    bits = np.array(sorted(widths.norms))
    low, mid, high = _spread([list(widths.rate(int(b)).values()) for b in bits])
    axes.errorbar(
        bits, mid, (mid - low, high - mid), color=ORANGE, marker="o", capsize=3,
        label=f"measured, epochs {FIRST} to {LAST}",
    )  # fmt: skip
    fine = np.linspace(2, 16, 200)
    axes.plot(fine, widths.rule(fine), "--", color=BLUE, label="rule r: rounding alone")
    axes.axhline(1, color="black", linewidth=1)
    axes.annotate("grows", (13.5, 1.15))
    axes.annotate("converges", (13.5, 0.8), va="top")
    axes.set_yscale("log")
    axes.set_ylim(0.05, 30)
    axes.set_ylabel("factor of the gradient norm per epoch")


def _draw_ends(axes, widths):
    bits = np.array(sorted(widths.norms))
    norms = [list(widths.norms[int(b)].values()) for b in bits]
    low, mid, high = _spread([[v[-1] for v in by_seed] for by_seed in norms])
    grows = mid > [np.mean([v[0] for v in by_seed]) for by_seed in norms]
    longest = max(len(by_seed[0]) for by_seed in norms) - 1
    for mask, face, label in (
        (~grows, ORANGE, f"converges: after epoch {longest}"),
        (grows, "white", f"grows: after epoch {LAST}"),
    ):
        axes.errorbar(
            bits[mask], mid[mask], ((mid - low)[mask], (high - mid)[mask]), color=ORANGE,
            marker="o", mfc=face, linestyle="none", capsize=3, label=label,
        )  # fmt: skip
    start = float(np.mean([v[0] for by_seed in norms for v in by_seed]))
    axes.axhline(start, color="0.4", ls=":")
    axes.annotate("start", (2, start), xytext=(0, 4), textcoords="offset points", color="0.4")
    axes.set_yscale("log")
    axes.set_ylabel("gradient norm reached")
    log_axes(axes)


def _spread(groups: list[list[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest, geometric mean and largest of every group."""
    values = np.array(groups)
    return values.min(1), np.exp(np.log(values).mean(1)), values.max(1)


def check(widths: Widths, size: str) -> list[Verdict]:
    """The rule at every width, and what enough bits reach."""
    del size  # the claims are the same at every size
    verdicts = []
    for bits in (b for b in BITS if b <= 8):
        rates, rule = widths.rate(bits), float(widths.rule(bits))
        verdicts.append(
            judge(
                f"{bits} bits {'converge' if rule < 1 else 'do not converge'}, as r predicts",
                {s: (rate < 1) == (rule < 1) for s, rate in rates.items()},
                measured=f"factor per epoch {in_words(rates.values())}",
                expected=f"r = {rule:.3g}: {'below' if rule < 1 else 'above'} 1",
            )
        )
    ends = {s: max(widths.norms[b][s][-1] for b in BITS if b >= 8) for s in SEEDS}
    verdicts.append(
        judge(
            "8 bits and more all go below 1e-12",
            {s: end < 1e-12 for s, end in ends.items()},
            measured=f"worst of 8 to 16 bits at epoch 45: {max(ends.values()):.3g}",
            expected="< 1e-12",
        )
    )
    return verdicts
