"""Sub-words: a vocabulary of pieces learned from a corpus, kept in one file.

Byte-pair merges by sentencepiece, which depends on nothing else, takes raw text with its
spaces, and gives the same pieces for the same text in one thread.
"""

import base64
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lpml.data.dataset import DataError
from lpml.data.files import read_file

# Numbers of the pieces that are no text.
PADDING, BEGIN, END, UNKNOWN = range(4)
LEAST = 5  # those, and one that is text
SPECIAL = 4

CACHE = Path("~/.cache/lpml/subwords")


class Subwords:
    """A vocabulary of sub-words.

    Args:
      model: sentencepiece's own bytes.

    Raises:
      ValueError: bytes that are no such model.
    """

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self.model = model
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("the bytes are no model of sentencepiece") from error

    @property
    def size(self) -> int:
        """Number of pieces, the four that are no text included."""
        return self._pieces.get_piece_size()

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Numbers of pieces of every line, without BEGIN and END."""
        return self._pieces.encode(list(lines), num_threads=1)

    def decode(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """Text of rows of numbers: each up to its first END, without PADDING and BEGIN."""
        return [self._pieces.decode(text_of(row)) for row in rows]


def text_of(row: Iterable[int]) -> list[int]:
    """The pieces of a row that are text: up to its first END, without PADDING and BEGIN."""
    text = []
    for piece in map(int, row):
        if piece == END:
            break
        if piece not in (PADDING, BEGIN):
            text.append(piece)
    return text


def train_subwords(lines: Sequence[str], *, size: int) -> Subwords:
    """The `size` pieces that byte-pair merges of a corpus give; the same for the same lines.

    Text is taken as it is, but for repeated spaces: decoding gives back what was encoded.
    Every character of the corpus is a piece.

    Raises:
      DataError: a corpus too small for so many pieces, or with more characters than those.
    """
    import sentencepiece

    if not LEAST <= size < 2**31:
        raise DataError(f"vocabulary = {size} must be at least {LEAST}, a number of sub-words.")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
            pad_id=PADDING,
            bos_id=BEGIN,
            eos_id=END,
            unk_id=UNKNOWN,
        )
    except RuntimeError as error:
        raise DataError(_reason(size, str(error))) from error
    return Subwords(model.getvalue())


def _reason(size: int, message: str) -> str:
    """A sentence for what the library says."""
    if most := re.search(r"value <= (\d+)", message):
        return (
            f"vocabulary = {size} is more than this corpus has sub-words: lower it to "
            f"{most[1]} or take more text."
        )
    if least := re.search(r"required_chars. \d+ vs (\d+)", message):
        return (
            f"vocabulary = {size} is too small for the characters of this corpus: raise it to "
            f"at least {least[1]}."
        )
    return (
        f"no sub-words can be made of this corpus ({' '.join(message.split())}): mend the text."
    )


def kept_subwords(
    corpus: str, lines: Sequence[str], *, size: int, file: str | None = None
) -> Subwords:
    """`train_subwords`, or what an earlier call for the same lines and size has kept.

    Args:
      corpus: a short name, for the file's name and for messages.
      lines: the text.
      size: number of pieces.
      file: where the vocabulary is kept; None: in CACHE, under a name that says of what text
        and settings it is, or nowhere if that folder cannot be written to.

    Raises:
      DataError: the file is damaged, cannot be read or written, or holds the sub-words of
        another text, size or version of the library; or see `train_subwords`.
    """
    record = {
        "corpus": corpus,
        "size": size,
        "text": _digest(lines),
        "sentencepiece": importlib.metadata.version("sentencepiece"),
    }
    whole = _digest([json.dumps(record, sort_keys=True)])
    path = Path(file) if file else CACHE / f"{corpus}-{size}-{whole[:16]}.json"
    path = path.expanduser()
    if os.path.lexists(path):
        return _load(path, record)
    subwords = train_subwords(lines, size=size)
    try:
        _save(path, record, subwords)
    except OSError as error:
        if file:
            raise DataError(
                f"{path} cannot be written ({error.strerror}): name another vocabulary_file."
            ) from error
    return subwords


def _load(path: Path, wanted: dict[str, Any]) -> Subwords:
    try:
        kept = json.loads(read_file(path))
        found = {key: kept[key] for key in wanted}
        subwords = Subwords(base64.b64decode(kept["model"], validate=True))
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} holds no sub-words: delete it to have them made anew."
        ) from error
    different = [key for key in wanted if found[key] != wanted[key]]
    if different:
        key = different[0]
        what = {"text": "another text", "size": f"vocabulary = {found[key]}"}
        raise DataError(
            f"{path} holds the sub-words of {what.get(key, f'{key} {found[key]}')} and not of "
            f"{wanted['corpus']} with vocabulary = {wanted['size']}: name another "
            "vocabulary_file, or delete this one to have them made anew."
        )
    return subwords


def _save(path: Path, record: dict[str, Any], subwords: Subwords) -> None:
    """Whole or not at all: runs side by side may want the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = record | {"model": base64.b64encode(subwords.model).decode()}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(kept, file)
    os.replace(file.name, path)


def _digest(lines: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
