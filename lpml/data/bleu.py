"""The score of translations: corpus BLEU, as sacrebleu counts it."""

from collections.abc import Sequence


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a corpus in percent, 0 to 100: cased, sacrebleu's tokenisation '13a'.

    Args:
      translations: detokenised sentences.
      references: one for each.

    Raises:
      ValueError: not one reference for each translation, or none at all.

    References:
      Post, A call for clarity in reporting BLEU scores, WMT 2018.
    """
    if len(translations) != len(references) or not references:
        raise ValueError(
            f"there are {len(translations)} translations and {len(references)} references, but "
            "there must be one for each, and at least one."
        )
    import sacrebleu

    return float(sacrebleu.corpus_bleu(list(translations), [list(references)]).score)
