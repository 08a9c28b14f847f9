"""Sentences in two languages, line by line: two text files, or tab-separated lines in a zip."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

from lpml.data.dataset import DataError
from lpml.data.files import MAX_BYTES, decompress, read_file
from lpml.data.text import text_lines


class Pairs(NamedTuple):
    """Sentences and their translations: line n of each belongs together."""

    source: list[str]
    target: list[str]


class Corpus(NamedTuple):
    """A parallel corpus: its name, and pairs for training and for the test."""

    name: str
    train: Pairs
    test: Pairs


def read_pairs(source: Path, target: Path) -> Pairs:
    """The pairs of two text files, each plain, .gz or .xz.

    Raises:
      DataError: a file is missing, damaged, empty or not UTF-8 (with the line), or the two
        have different numbers of lines.
    """
    sides = [text_lines(decompress(read_file(path), path), path) for path in (source, target)]
    pairs = Pairs(*([line.strip() for line in side] for side in sides))
    counts = [len(side) for side in pairs]
    if counts[0] != counts[1]:
        raise DataError(
            f"{source} has {counts[0]} lines and {target} has {counts[1]}, but line n of each "
            f"must belong together: the shorter ends at line {min(counts)}, fetch both again."
        )
    return pairs


def read_zip_pairs(path: Path, member: str) -> Pairs:
    """The first two fields of the tab-separated lines of one file in a zip archive.

    Raises:
      DataError: the archive is missing or damaged or has no such member, or a line does not
        have two fields that are not empty (with its number), or is not UTF-8.
    """
    where = f"{member} in {path}"
    try:
        with zipfile.ZipFile(io.BytesIO(read_file(path))) as archive:
            if archive.getinfo(member).file_size > MAX_BYTES:
                raise DataError(
                    f"{where} unpacks to more than {MAX_BYTES} bytes: fetch it again."
                )
            content = archive.read(member)
    except KeyError as error:
        raise DataError(f"{path} has no member {member}: fetch it again.") from error
    except DataError:
        raise
    # damaged archives raise nearly everything: BadZipFile, zlib.error, EOFError, ...
    except Exception as error:
        raise DataError(
            f"{path} is damaged or is no zip archive ({type(error).__name__}): fetch it again."
        ) from error
    pairs = Pairs([], [])
    for number, line in enumerate(text_lines(content, where), 1):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < 2 or not all(fields[:2]):
            raise DataError(
                f"{where} does not have two sentences with a tab between them in line "
                f"{number}: remove that line or fetch the file again."
            )
        pairs.source.append(fields[0])
        pairs.target.append(fields[1])
    return pairs
