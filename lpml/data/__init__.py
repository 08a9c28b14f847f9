"""Data sources: one function a data set, numpy arrays out.

Importing this imports numpy and the standard library only; scikit-learn comes with the
first call that needs it.
"""

from lpml.data.characters import markov_chain, markov_text, tinyshakespeare
from lpml.data.cifar import cifar10
from lpml.data.dataset import DataError, Dataset, quantize_inputs
from lpml.data.digits import digits
from lpml.data.idx import read_idx
from lpml.data.libsvm import libsvm
from lpml.data.mnist import fashion_mnist, mnist
from lpml.data.order import batch_indices
from lpml.data.synthetic import (
    synthetic_classification,
    synthetic_regression,
    uniform_regression,
)

__all__ = [
    "DataError",
    "Dataset",
    "batch_indices",
    "cifar10",
    "digits",
    "fashion_mnist",
    "libsvm",
    "markov_chain",
    "markov_text",
    "mnist",
    "quantize_inputs",
    "read_idx",
    "synthetic_classification",
    "synthetic_regression",
    "tinyshakespeare",
    "uniform_regression",
]
