"""The problems of `time_to_accuracy.py`: a data set on a grid of 8 bits and an L2 factor."""

import dataclasses

import numpy as np

from lpml import data, models


@dataclasses.dataclass(frozen=True)
class Problem:
    """A data set and the L2 factor of its objective."""

    dataset: data.Dataset
    l2: float

    @property
    def x(self):
        """(N, d) float64."""
        x = self.dataset.train["x"]
        return x.reshape(len(x), -1)

    @property
    def y(self):
        """(N,) targets or classes."""
        return self.dataset.train["y"]

    @property
    def model(self):
        """The problem as lpml trains it."""
        if self.dataset.classes is None:
            return models.linear_regression(l2=self.l2, dtype="float64")
        kind = models.logistic_regression
        if self.dataset.classes > 2:
            kind = models.multinomial_regression
        return kind(classes=self.dataset.classes, l2=self.l2, dtype="float64")

    @property
    def smoothness(self):
        """Largest Lipschitz constant of a sample's gradient."""
        factor = {"squared": 2, "logistic": 0.25, "softmax": 0.5}[self.model.loss.name]
        return factor * float(np.max(np.einsum("ij,ij->i", self.x, self.x))) + self.l2

    def value_and_gradient(self, flat):
        """The objective in numpy, of weights (K d,)."""
        x, y, size = self.x, self.y, len(self.x)
        w = flat.reshape(-1, x.shape[1])
        outputs = x @ w.T
        if self.dataset.classes is None:
            slopes = 2 * (outputs - y[:, None])
            value = np.mean((outputs[:, 0] - y) ** 2)
        elif self.dataset.classes == 2:
            slopes = 1 / (1 + np.exp(-outputs)) - y[:, None]
            value = np.mean(np.logaddexp(0, outputs[:, 0]) - y * outputs[:, 0])
        else:
            outputs -= outputs.max(1, keepdims=True)
            p = np.exp(outputs)
            total = p.sum(1, keepdims=True)
            value = np.mean(np.log(total[:, 0]) - outputs[np.arange(size), y])
            slopes = p / total
            slopes[np.arange(size), y] -= 1
        gradient = slopes.T @ x / size + self.l2 * w
        return value + self.l2 / 2 * np.sum(w * w), gradient.ravel()

    def norm(self, flat):
        """Of the gradient at weights (K d,)."""
        return float(np.linalg.norm(self.value_and_gradient(np.ravel(flat))[1]))

    @property
    def outputs(self):
        """K."""
        return 1 if self.dataset.classes in (None, 2) else self.dataset.classes

    @property
    def start(self):
        """The norm at w = 0."""
        return self.norm(np.zeros(self.outputs * self.x.shape[1]))


def squares(samples, features, l2):
    def made(dir):
        del dir
        source = data.synthetic_regression(
            samples=samples, features=features, noise=1.0, seed=0, dtype="float64", input_bits=8
        )
        return Problem(source, l2)

    return made


def mnist(l2, digits=None):
    """All ten classes, or two of them as a binary problem."""

    def made(dir):
        source = data.mnist(dir=dir, flat=True, dtype="float64", input_bits=8)
        if digits is not None:
            some = np.isin(source.train["y"], digits)
            train = {k: v[some] for k, v in source.train.items()}
            train["y"] = (train["y"] == digits[1]).astype(np.int32)
            source = source._replace(train=train, test=None, classes=2)
        return Problem(source, l2)

    return made


def libsvm(file, l2):
    def made(dir):
        source = data.libsvm(dir=dir, file=file, dtype="float64")
        return Problem(data.quantize_inputs(source, 8), l2)

    return made


PROBLEMS = {
    "squares d=100": squares(1000, 100, 0.0),
    "squares d=1000": squares(4000, 1000, 0.1),
    "squares d=10000": squares(10000, 10000, 1.0),
    "mnist 3 or 8": mnist(1e-3, (3, 8)),
    "mnist": mnist(1e-3),
    "a9a": libsvm("a9a", 1e-4),
    "w8a": libsvm("w8a", 1e-4),
    "mushrooms": libsvm("mushrooms", 1e-3),
}
