"""In dense layers Shampoo needs fewer steps than others, and no rate as exact as AdaGrad's.

Images in Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
whose first version has ResNet-50: faster in the beginning than SGD with momentum, as low a
training loss in the end, a worse test accuracy; and more tolerance of the learning rate than
AdaGrad has.

    python launch.py --experiment=shampoo_images
    python launch.py --experiment=shampoo_images --size=paper   (CIFAR-10; a GPU)

Every method has the same number of rates, a factor sqrt(10) apart, and the same course of the
rate: an epoch of warm-up, then half a cosine to 0. Steps are counted to the training loss at
which the other method ends, seed by seed; a loss that is never reached counts as the whole
training. The tolerance is the width in decades of the rates with which the training loss ends
within 0.1 nats of the best, straight lines between the rates tried. The default size has a thin
ResNet of 8 layers (20 at paper) with four rates for every method, and dense layers with eight,
each with three seeds. Both on digits. AdaGrad has no momentum, Shampoo the average over ten
steps that it has everywhere.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import papers
from experiments.rates import bracketed
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.SHAMPOO
MINUTES = 5  # of two CPU cores, default size

CONFIG = "configs/shampoo_images.py"
NAMES = {"mlp": "dense layers", "resnet20": "ResNet"}
STEP = 10**0.5  # between two rates
MARGIN = 0.1  # nats: an end that is still as good as the best
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
PARTS = " of the steps"
DECADES = " decades"
POINTS = " points"


class Method(NamedTuple):
    """An optimizer: its name in configs and legends, look, and rates.

    Attributes:
      rate: of the ResNet, the third of its four.
      lowest: of the dense layers' eight rates.
    """

    name: str
    label: str
    color: str
    line: str
    marker: str
    rate: float
    lowest: float


SHAMPOO = Method("shampoo", "Shampoo", "#D55E00", "-", "o", 1.0, 1e-2 / STEP)
ADAM = Method("adam", "Adam", "#0072B2", "--", "s", 1 / STEP, 1e-4)
ADAGRAD = Method("adagrad", "AdaGrad", "#E69F00", "-.", "^", 1 / STEP, 1e-3)
MOMENTUM = Method("momentum", "momentum SGD", "#000000", ":", "v", 1.0, 1e-3)
MUON = Method("muon", "Muon", "#CC79A7", "--", "D", 0.1, 1e-3 / STEP)
METHODS = (SHAMPOO, ADAM, ADAGRAD, MOMENTUM, MUON)


def runs(size: str) -> list[Point]:
    """Every rate of every method with every seed; tiny has dense layers only."""
    seeds = SEEDS[size]
    dense = [
        _point("mlp", method, rate, seed, size)
        for method in METHODS
        for rate in dense_rates(method, size)
        for seed in seeds
    ]
    if size == "tiny":
        return dense
    return dense + [
        _point("resnet20", method, method.rate * STEP**i, seed, size)
        for method in METHODS
        for i in range(-2, 2)
        for seed in seeds
    ]


def dense_rates(method: Method, size: str) -> list[float]:
    """From `lowest` on; the middle ones at size tiny."""
    rates = [float(f"{method.lowest * STEP**i:.3g}") for i in range(8)]
    return rates[3:6] if size == "tiny" else rates


def _point(network, method, rate, seed, size):
    rate = float(f"{rate:.3g}")
    return Point(
        f"{network}-{method.name}-rate{rate:g}-seed{seed}",
        f"{CONFIG}:{method.name},{size}",
        {**NETWORKS[network, size], "optim.learning_rate": rate, "seed": seed},
    )


def _dense(hidden):
    formats = {"weights": "none", "activations": "none", "gradients": "none"}
    return {
        "name": "mlp", "hidden": hidden, "activation": "relu", "l2": 0.0, "quant": formats
    }  # fmt: skip


NETWORKS: dict[tuple[str, str], dict[str, Any]] = {
    ("mlp", "tiny"): {},
    ("mlp", "default"): {"model": _dense((64, 64)), "data.flat": True},
    ("mlp", "paper"): {"model": _dense((512, 512))},
    ("resnet20", "default"): {"model.depth": 8},
    ("resnet20", "paper"): {},
}


class Trained(NamedTuple):
    """What came out, by (network, method, rate) and seed.

    Attributes:
      loss: mean training losses of the epochs 1, 2, ... (nats).
      accuracy: test accuracy after the last epoch, percent.
    """

    loss: dict[tuple[str, str, float], dict[int, np.ndarray]]
    accuracy: dict[tuple[str, str, float], dict[int, float]]

    def networks(self) -> list[str]:
        """In the order of the runs."""
        return list(dict.fromkeys(network for network, _, _ in self.loss))

    def rates(self, network: str, method: Method) -> list[float]:
        """Those tried, ascending."""
        return sorted(r for n, m, r in self.loss if (n, m) == (network, method.name))

    def best(self, network: str, method: Method) -> tuple[str, str, float]:
        """The rate of lowest final loss, the geometric mean over seeds."""
        keys = [(network, method.name, rate) for rate in self.rates(network, method)]
        return min(
            keys, key=lambda key: np.mean([np.log(v[-1]) for v in self.loss[key].values()])
        )

    def steps(self, network: str, one: Method, two: Method) -> dict[int, float]:
        """Part of the training after which `one` is where `two` ends, seed by seed."""
        fast = self.loss[self.best(network, one)]
        slow = self.loss[self.best(network, two)]
        return {seed: part_until(fast[seed], slow[seed][-1]) for seed in fast}

    def tolerances(self, network: str, method: Method) -> dict[int, float]:
        """Decades of the rates that end within MARGIN of the best, by seed."""
        rates = self.rates(network, method)
        ends = [self.loss[network, method.name, rate] for rate in rates]
        return {
            seed: tolerance(rates, [float(end[seed][-1]) for end in ends]) for seed in ends[0]
        }

    def accuracies(self, network: str, method: Method) -> dict[int, float]:
        """Test accuracy with the best rate, percent."""
        return self.accuracy[self.best(network, method)]


def part_until(losses: np.ndarray, level: float) -> float:
    """Where a curve first falls to `level`, in (0, 1] of its length; 1 where it never does.

    Between two epochs the logarithm of the loss is a straight line.
    """
    below = np.flatnonzero(losses <= level)
    if not len(below):
        return 1.0
    at = int(below[0])
    if at == 0:
        return 1 / len(losses)
    high, low, wanted = np.log([losses[at - 1], losses[at], level])
    return float(at + (high - wanted) / (high - low)) / len(losses)


def tolerance(rates: list[float], ends: list[float]) -> float:
    """Decades of the rate with a loss of at most MARGIN nats above the least."""
    places = np.log10(rates)
    fine = np.linspace(places[0], places[-1], 10001)
    good = np.interp(fine, places, ends) <= min(ends) + MARGIN
    return float(np.mean(good) * (places[-1] - places[0]))


def load(finished: dict[str, Run]) -> Trained:
    """Curves and ends of every run."""
    found = Trained({}, {})
    for run in finished.values():
        optim, seed = run.config["optim"], run.config["seed"]
        key = (run.config["model"]["name"], optim["name"], optim["learning_rate"])
        assert run.final is not None
        steps, loss = run.series("loss")
        found.loss.setdefault(key, {})[seed] = loss[steps > 0]
        found.accuracy.setdefault(key, {})[seed] = 100 * run.final["test_accuracy"]
    return found


def draw(trained: Trained) -> dict[str, Figure]:
    """Left: training loss by epoch with the best rates. Right: last loss by rate."""
    networks = trained.networks()
    figure = Figure(figsize=(12, 4.7 * len(networks) + 0.4), layout="constrained")
    for (left, right), network in zip(
        figure.subplots(len(networks), 2, squeeze=False), networks
    ):
        for method in METHODS:
            _curve(left, trained, network, method)
            _ends(right, trained, network, method)
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set(xlabel="epoch", title=f"{NAMES[network]}, best rates (test accuracy)")
        right.set(xlabel="learning rate", xscale="log", title=f"{NAMES[network]}, all rates")
        left.set_ylabel("training loss, mean of the epoch (nats)")
        right.set_ylabel("training loss, mean of the last epoch (nats)")
        for axes in (left, right):
            axes.set_yscale("log")
            log_axes(axes)
        left.legend()
    seeds = max(len(by_seed) for by_seed in trained.loss.values())
    figure.suptitle(f"Images by five optimizers (geometric mean and range of {seeds} seeds)")
    return {"figure": figure}


def _curve(axes: Any, trained: Trained, network: str, method: Method) -> None:
    key = trained.best(network, method)
    rows = np.stack(list(trained.loss[key].values()))
    accuracy = np.mean(list(trained.accuracy[key].values()))
    epochs = np.arange(1, rows.shape[1] + 1)
    label = f"{method.label}, {key[2]:g} ({accuracy:.1f} %)"
    axes.plot(
        epochs, np.exp(np.log(rows).mean(0)), color=method.color, linestyle=method.line,
        marker=method.marker, markersize=4, label=label,
    )  # fmt: skip
    axes.fill_between(epochs, rows.min(0), rows.max(0), color=method.color, alpha=0.15, lw=0)


def _ends(axes: Any, trained: Trained, network: str, method: Method) -> None:
    rates = trained.rates(network, method)
    ends = [
        np.array([v[-1] for v in trained.loss[network, method.name, rate].values()])
        for rate in rates
    ]
    mean = np.array([np.exp(np.log(v).mean()) for v in ends])
    spread = np.array([mean - [v.min() for v in ends], [v.max() for v in ends] - mean])
    spread = np.maximum(spread, 0)  # exp(log x) may miss x
    axes.errorbar(
        rates, mean, spread, color=method.color, linestyle=method.line, marker=method.marker,
        markersize=4, capsize=3,
    )  # fmt: skip


def check(trained: Trained, size: str) -> list[Verdict]:
    """Steps to the loss of others, the tolerance of the rate, the test accuracy."""
    del size
    verdicts = []
    for network in trained.networks():
        name = NAMES[network]
        verdicts += [
            judge_mean(
                f"{name}: Shampoo is where {other.label} ends after fewer steps",
                trained.steps(network, SHAMPOO, other), below=1, unit=PARTS,
            )
            for other in (MOMENTUM, ADAM)
        ]  # fmt: skip
        verdicts.append(
            judge_mean(
                f"{name}: test accuracy is lower with Shampoo than with momentum SGD",
                _differences(
                    trained.accuracies(network, SHAMPOO), trained.accuracies(network, MOMENTUM)
                ),
                below=0, unit=POINTS,
                paper="lower (ResNet-50, first version)",
            )
        )  # fmt: skip
        tried = {
            m.label: (trained.best(network, m)[2], trained.rates(network, m)) for m in METHODS
        }
        seeds = list(trained.accuracies(network, SHAMPOO))
        verdicts.append(bracketed(name, tried, seeds))
    verdicts.append(
        judge_mean(
            f"dense layers: rates within {MARGIN} nats of the best span more with Shampoo than "
            "with AdaGrad",
            _differences(
                trained.tolerances("mlp", SHAMPOO), trained.tolerances("mlp", ADAGRAD)
            ),
            above=0, unit=DECADES, paper="more tolerant of the rate than AdaGrad",
        )
    )  # fmt: skip
    return verdicts


def _differences(one: dict[int, float], two: dict[int, float]) -> dict[int, float]:
    return {seed: one[seed] - two[seed] for seed in one}
