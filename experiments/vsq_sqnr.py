"""A scale per vector of 16 to 64 numbers keeps 4 bits usable; integer scales cost little.

VS-Quant (Dai et al., MLSys 2021, arXiv 2102.04503) has no such figure: its claims are of
networks. Here is what lies under them: signal to quantisation noise (SQNR) of random arrays by
vector size, width of the scales and tails of the numbers, of the same arrays in the formats
that users would take instead, and of products in the integers that an accelerator computes.

    python launch.py --experiment=vsq_sqnr

Expected: 4-bit elements in vectors of 16 gain 5 dB (Gaussian) to 8 dB (Laplace) and more over
a scale per channel, 4-bit integer scales lose 0.2 dB to float32 ones. At 4.5 bits per element
NVFP4, whose elements are unevenly spaced, loses 1 dB on Gaussian numbers and gains 0.7 dB and
1.2 dB on heavier tails.

Where it fails: float32 products come within 1e-6 of the integers' on one processor (6e-7 to
8e-7) and not on another (1.2e-6 to 1.5e-6): a float32 sum depends on the order that XLA's loops
for a processor take, and 1e-6 is eight roundings of the largest output.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.vsq_claims import Results, judged
from lpml.runs import Point, Run, Verdict

PAPER = papers.VS_QUANT
MINUTES = 1  # of two CPU cores, default size

CONFIG = "configs/vsq_sqnr.py"
SEEDS = (1, 2, 3)
BLOCKS = {"tiny": (16, 64), "default": (8, 16, 32, 64, 128)}
FLOAT = 32  # bits of a scale that stays float32
DISTRIBUTIONS = {
    "gaussian": "Gaussian",
    "laplace": "Laplace",
    "student4": "Student t, 4 degrees of freedom",
    "uneven_rows": "Gaussian, rows of uneven size",
}
PRODUCTS = (
    *(("vsq4v16m4", bits) for bits in (None, 6, 4, 3)),
    *(("vsq4v16m6", bits) for bits in (None, 8, 6)),
    *(("vsq4v64m8", bits) for bits in (None, 10, 8)),
)
MX = ("mxfp8e4m3", "mxfp8e5m2", "mxfp6e2m3", "mxfp4", "mxint8")


class Curve(NamedTuple):
    """VSQ with scales of some bits, and how it is drawn."""

    scale_bits: int
    color: str
    line: str
    marker: str

    @property
    def label(self) -> str:
        """For the legend."""
        return "float32 scales" if self.scale_bits == FLOAT else f"{self.scale_bits}-bit scales"


class Peer(NamedTuple):
    """Another format, and how it is drawn."""

    format: str
    label: str
    marker: str
    line: str = "-"


CURVES = (
    Curve(FLOAT, "0.7", "-", ""),
    Curve(8, "#0072B2", "--", "s"),
    Curve(6, "#56B4E9", ":", "D"),
    Curve(4, "#D55E00", "-", "o"),
    Curve(3, "#E69F00", "--", "^"),
)
PEERS = {
    4: (
        Peer("int4tensor", "int4 per tensor", "v", ":"),
        Peer("int4channel", "int4 per channel", "P", "-."),
        Peer("mxfp4", "MXFP4", "X", "--"),
        Peer("nvfp4", "NVFP4", "*", "-"),
    ),
    8: (
        Peer("int8tensor", "int8 per tensor", "v"),
        Peer("int8channel", "int8 per channel", "P"),
        Peer("fp8tensor", "E4M3 per tensor", "<"),
        Peer("mxfp8e4m3", "MXFP8 E4M3", "X"),
        Peer("mxfp8e4m3rceil", "MXFP8 E4M3, rule rceil", "p"),
        Peer("mxfp8e5m2", "MXFP8 E5M2", "d"),
        Peer("mxint8", "MXINT8", "h"),
    ),
}


def runs(size: str) -> list[Point]:
    """Every case with three seeds; cases of the same numbers follow each other."""
    listed = []

    def add(variant: str, label: str, source: str, seed: int, **settings: Any) -> None:
        changed = {f"measurement.{key}": value for key, value in settings.items()}
        name = f"{label}-{source}-seed{seed}"
        config = f"{CONFIG}:{variant},{size}"
        listed.append(Point(name, config, {**changed, "seed": seed}))

    for seed in SEEDS:
        for source in DISTRIBUTIONS:
            for label, settings in _vectors(BLOCKS.get(size, BLOCKS["default"])):
                add("vsq", label, source, seed, distribution=source, **settings)
            for peer in (*PEERS[4], *PEERS[8]):
                named = {"format": peer.format, "distribution": source}
                add("named", peer.format, source, seed, **named)
        for label, settings in _products(size):
            add("product", label, "gaussian", seed, **settings)
        for form in MX:
            add("exponents", f"exponents.{form}", "any", seed, format=form)
    return listed


def _vectors(blocks: tuple[int, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in blocks:
        for curve in CURVES:
            settings = {"block": block, "scale_bits": curve.scale_bits}
            yield f"vsq4v{block}m{curve.scale_bits}", settings
        for scale_bits in (6, 8):
            if 16 <= block <= 64:
                settings = {"bits": 8, "block": block, "scale_bits": scale_bits}
                yield f"vsq8v{block}m{scale_bits}", settings
    for scale_bits in (4, 6, 8):
        yield f"vsq4v16m{scale_bits}.paper", {"scale_bits": scale_bits, "order": "paper"}
    for scale_bits in (4, 8):
        yield f"vsq4v16m{scale_bits}.tensor", {"scale_bits": scale_bits, "outer": "tensor"}


def _products(size: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for form, bits in PRODUCTS:
        settings = {"activations": form, "weights": form}
        if bits is None:
            yield f"product.{form}", settings
        else:
            yield f"product.{form}.{bits}", {**settings, "product_bits": bits}
    coarse = {"activations": "int4tensor", "weights": "int4channel"}
    yield "product.int4", coarse
    long = {"activations": "vsq4v16m6", "weights": "vsq4v16m6"}
    yield "product.long", {**long, "contracted": 512 if size == "tiny" else 4096}


def load(finished: dict[str, Run]) -> Results:
    """The metrics that the runs end with."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for name, run in finished.items():
        label, source, _ = name.rsplit("-", 2)
        assert run.final is not None
        found.setdefault((label, source), {})[run.config["seed"]] = run.final
    return found


def draw(results: Results) -> dict[str, Figure]:
    """By vector size, and by what an element costs."""
    return {"figure": _by_size(results), "cost": _by_cost(results)}


def _by_size(results: Results) -> Figure:
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    blocks = _blocks(results, bits=4)
    for axes, (source, title) in zip(panels.flat, DISTRIBUTIONS.items(), strict=True):
        for curve in CURVES:
            heights = [
                _mean(results, f"vsq4v{block}m{curve.scale_bits}", source) for block in blocks
            ]
            axes.plot(blocks, heights, label=curve.label, **_style(curve))
        for peer in PEERS[4]:
            height = _mean(results, peer.format, source)
            axes.axhline(height, color="0.45", linestyle=peer.line, linewidth=1.1, zorder=1.5)
            axes.annotate(
                peer.label, (1.01, height), xycoords=("axes fraction", "data"), va="center",
                fontsize="small", annotation_clip=False,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(blocks, [str(block) for block in blocks])
        axes.grid(True, color="0.92")
        axes.set_axisbelow(True)
        axes.set(title=title, ylabel="SQNR / dB")
    for axes in panels[-1]:
        axes.set_xlabel("numbers per vector V")
    figure.suptitle(f"4-bit elements with a scale per vector (means over {len(SEEDS)} seeds)")
    shown = panels[0, 0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=5)
    return figure


def _by_cost(results: Results) -> Figure:
    figure = Figure(figsize=(14, 8), layout="constrained")
    panels = figure.subplots(2, len(DISTRIBUTIONS))
    for row, bits in zip(panels, PEERS, strict=True):
        blocks = _blocks(results, bits=bits)
        for axes, (source, title) in zip(row, DISTRIBUTIONS.items(), strict=True):
            for curve in CURVES:
                labels = [f"vsq{bits}v{block}m{curve.scale_bits}" for block in blocks]
                points = [_point(results, each, source) for each in labels
                          if (each, source) in results]  # fmt: skip
                if points:
                    axes.plot(*zip(*points), label=f"VSQ, {curve.label}", **_style(curve))
            for peer in PEERS[bits]:
                point = _point(results, peer.format, source)
                axes.plot(
                    *point, peer.marker, color="0.55", mec="black", ms=9, label=peer.label
                )
            axes.set_xlim(bits - 0.05, bits + (1.05 if bits == 4 else 0.6))
            axes.set_axisbelow(True)
            axes.grid(True, color="0.92")
            axes.set_title(title, fontsize="medium")
        row[0].set_ylabel(f"{bits}-bit elements: SQNR / dB")
        row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    for axes in panels[-1]:
        axes.set_xlabel("bits per element, scales included")
    figure.suptitle(
        "What an element costs (VSQ: the longest vectors are the cheapest; means over "
        f"{len(SEEDS)} seeds)"
    )
    return figure


def _style(curve: Curve) -> dict[str, Any]:
    """The float scales' curve is broad: those of many bits lie upon it."""
    width = 5 if curve.scale_bits == FLOAT else 1.5
    return {
        "color": curve.color,
        "linestyle": curve.line,
        "marker": curve.marker,
        "linewidth": width,
    }


def _blocks(results: Results, *, bits: int) -> list[int]:
    start = f"vsq{bits}v"
    found = {label.removeprefix(start).split("m")[0] for label, _ in results
             if label.startswith(start)}  # fmt: skip
    return sorted(map(int, found))


def _point(results: Results, label: str, source: str) -> tuple[float, float]:
    return _mean(results, label, source, "bits_per_element"), _mean(results, label, source)


def _mean(results: Results, label: str, source: str, metric: str = "sqnr") -> float:
    return float(np.mean([line[metric] for line in results[label, source].values()]))


def check(results: Results, size: str) -> list[Verdict]:
    """See `experiments.vsq_claims`."""
    return judged(results, tiny=size == "tiny")
