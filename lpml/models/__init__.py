"""Models: each a network with its loss. The only place that imports flax.linen."""

from lpml.models.cifarnet import cifarnet
from lpml.models.lenet import lenet5
from lpml.models.linear import linear_regression, logistic_regression, multinomial_regression
from lpml.models.lstm import character_lstm
from lpml.models.mlp import mlp
from lpml.models.resnet import resnet20
from lpml.models.resnet50 import resnet50
from lpml.models.supervised import Supervised
from lpml.models.transformer import character_transformer
from lpml.models.translating import translate, translate_all
from lpml.models.translation_transformer import translation_transformer
from lpml.models.vgg import vgg11

__all__ = [
    "Supervised",
    "character_lstm",
    "character_transformer",
    "cifarnet",
    "lenet5",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "multinomial_regression",
    "resnet20",
    "resnet50",
    "translate",
    "translate_all",
    "translation_transformer",
    "vgg11",
]
