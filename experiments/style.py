"""How curves look, the same in every figure: told apart in colour and in grey."""

from typing import Any

from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

# Colours of Okabe and Ito, which colour-blind readers can tell apart; bits change the dashes.
METHOD_STYLES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("sgd", None): dict(color="#000000", linestyle=":", linewidth=1.6),
    ("svrg", None): dict(color="#000000", linestyle="-", linewidth=2.2),
    ("lp_sgd", 8): dict(color="#E69F00", linestyle="-", marker="s", markevery=6),
    ("lp_sgd", 4): dict(color="#E69F00", linestyle=":", marker="s", markevery=6, mfc="black"),
    ("lp_svrg", 4): dict(
        color="#0072B2", linestyle=":", marker="^", markevery=(3, 6), mfc="black"
    ),
    ("halp", 4): dict(
        color="#D55E00", linestyle=":", marker="o", markevery=(2, 5), mfc="black"
    ),
    ("lp_sgd", 2): dict(color="#E69F00", linestyle="-.", marker="+", markevery=6),
    ("halp", 2): dict(color="#D55E00", linestyle="-.", marker="x", markevery=(2, 5)),
    ("lp_sgd", 16): dict(color="#E69F00", linestyle="--", marker="s", markevery=6, mfc="white"),
    ("lp_svrg", 8): dict(color="#0072B2", linestyle="-", marker="^", markevery=(3, 6)),
    ("lp_svrg", 16): dict(
        color="#0072B2", linestyle="--", marker="^", markevery=(3, 6), mfc="white"
    ),
    ("halp", 8): dict(color="#D55E00", linestyle="-", marker="o", markevery=5, linewidth=2.2),
    ("halp", 16): dict(
        color="#CC79A7", linestyle="--", marker="o", markevery=(2, 5), mfc="white"
    ),
}


def plain_ticks(axes: Any, *, within: float = 10) -> None:
    """Plain numbers on a log axis that reaches from x to less than `within` times x."""
    lowest, highest = axes.get_ylim()
    if highest < within * lowest:
        if highest > 5 * lowest:
            axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=12))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())


def log_axes(axes: Any) -> None:
    """A log axis with a tick every few decades and a light grid."""
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    axes.yaxis.set_minor_locator(LogLocator(base=10, subs=[0.2, 0.4, 0.6, 0.8], numticks=1))
    axes.grid(True, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
