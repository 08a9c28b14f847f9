"""Text files: UTF-8, plain or compressed, decoded whole or the place named where it is not."""

from pathlib import Path

from lpml.data.dataset import DataError


def decode_text(content: bytes, path: Path | str) -> str:
    """UTF-8 bytes as text, without a byte order mark, line ends made LF.

    Raises:
      DataError: bytes that are not UTF-8; the message names `path` and the line, from 1.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} has bytes in line {line} that are not UTF-8: convert the file or remove "
            "the line."
        ) from error
    return text.replace("\r\n", "\n")


def text_lines(content: bytes, path: Path | str) -> list[str]:
    """The lines of a text file without their ends.

    Lines end at LF alone: a form feed, or the line separators that `str.splitlines` also
    cuts at, may stand within a sentence, and would shift one side of a parallel corpus.

    Raises:
      DataError: not UTF-8, or no lines at all; the message names `path`.
    """
    text = decode_text(content, path)
    if not text.strip():
        raise DataError(f"{path} has no text in it: fetch it again.")
    return text.removesuffix("\n").split("\n")
