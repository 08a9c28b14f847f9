"""Whether learning rates were tried on both sides of the best: a comparison rests on it."""

from collections.abc import Mapping, Sequence

from lpml.runs import Verdict


def bracketed(
    where: str, tried: Mapping[str, tuple[float, Sequence[float]]], seeds: Sequence[int]
) -> Verdict:
    """The verdict on the rates themselves: holds where no best rate is at an edge.

    Args:
      where: of which runs, for the claim.
      tried: (best rate, all rates) by the label of a method.
      seeds: of the runs.
    """
    edges = []
    for label, (best, rates) in tried.items():
        if best in (max(rates), min(rates)):
            edge = "largest" if best == max(rates) else "smallest"
            edges.append(f"{label}'s is the {edge} of {len(rates)}, {best:g}")
    word = "holds" if not edges else "fails" if len(edges) == len(tried) else "undecided"
    claim = f"{where}: the best rate of every method has worse ones on both sides"
    measured = "; ".join(edges) or f"so for all {len(tried)}"
    return Verdict(claim, word, measured, "none at an edge of its grid", sorted(seeds))
