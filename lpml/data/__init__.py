"""Data sources: one function a data set, numpy arrays out.

Importing this imports numpy and the standard library only; scikit-learn, sentencepiece and
sacrebleu come with the first call that needs them.
"""

from lpml.data.bleu import bleu
from lpml.data.characters import markov_chain, markov_text, tinyshakespeare
from lpml.data.cifar import cifar10
from lpml.data.coded import coded, codes_of, write_codes
from lpml.data.corpora import (
    corpus_subwords,
    multi30k,
    multi30k_corpus,
    parallel_files,
    tatoeba,
    tatoeba_corpus,
)
from lpml.data.dataset import DataError, Dataset, quantize_inputs
from lpml.data.digits import digits
from lpml.data.idx import read_idx
from lpml.data.libsvm import libsvm
from lpml.data.mnist import fashion_mnist, mnist
from lpml.data.order import batch_indices, bucketed_indices
from lpml.data.parallel_text import Corpus, Pairs, read_pairs, read_zip_pairs
from lpml.data.subwords import Subwords, kept_subwords, train_subwords
from lpml.data.synthetic import (
    synthetic_classification,
    synthetic_regression,
    uniform_regression,
)
from lpml.data.translation import (
    lengths,
    pieces,
    source_pieces,
    synthetic_translation,
)

__all__ = [
    "Corpus",
    "DataError",
    "Dataset",
    "Pairs",
    "Subwords",
    "batch_indices",
    "bleu",
    "bucketed_indices",
    "cifar10",
    "coded",
    "codes_of",
    "corpus_subwords",
    "digits",
    "fashion_mnist",
    "kept_subwords",
    "lengths",
    "libsvm",
    "markov_chain",
    "markov_text",
    "mnist",
    "multi30k",
    "multi30k_corpus",
    "parallel_files",
    "pieces",
    "quantize_inputs",
    "read_idx",
    "read_pairs",
    "read_zip_pairs",
    "source_pieces",
    "synthetic_classification",
    "synthetic_regression",
    "synthetic_translation",
    "tatoeba",
    "tatoeba_corpus",
    "tinyshakespeare",
    "train_subwords",
    "uniform_regression",
    "write_codes",
]
