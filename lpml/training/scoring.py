"""The score of a translating network while it trains: BLEU of its own translations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lpml.data import Dataset, bleu
from lpml.models import Supervised, translate
from lpml.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Translations:
    """Greedy translations of the first test sentences, and their BLEU.

    The loss asks for one piece after the right ones before it; this is the network on its own.
    References are the texts that the test set's pieces spell, sentences left out for their
    length not among them.

    Args:
      model: a `translation_transformer`.
      dataset: pairs of sentences that know their text.
      count: sentences, 1 to the size of the test set.

    Raises:
      ValueError: another model, data without text, or a count out of its range.
    """

    model: Supervised
    dataset: Dataset
    count: int

    def __post_init__(self):
        test = self.dataset.test
        if self.dataset.text is None or test is None:
            raise ValueError(
                f"bleu = {self.count} asks for translations of test sentences, but this data "
                "set has none; leave bleu out"
            )
        if not hasattr(self.model.module, "tell"):
            raise ValueError(
                f"bleu = {self.count} asks for translations, which this model does not make; "
                "take translation_transformer or leave bleu out"
            )
        if not 1 <= self.count <= len(test["x"]):
            raise ValueError(
                f"bleu = {self.count} must be 1 to {len(test['x'])}, the test set's size"
            )

    def tell(self, state: TrainState, test: Mapping[str, jax.Array]) -> jax.Array:
        """Pieces (count, L) of the translations; a pure function to be compiled."""
        return translate(self.model, state.params, test["x"][: self.count, 0], beams=1)

    def bleu(self, told: Any) -> float:
        """BLEU in percent of what `tell` gave, against this data set's own translations."""
        text, test = self.dataset.text, self.dataset.test
        assert text is not None
        assert test is not None
        return bleu(text(np.asarray(told)), text(test["x"][: self.count, 1]))
