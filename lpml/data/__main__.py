"""Writes a source's training set as integer codes, for the source `coded`.

python -m lpml.data FOLDER SOURCE [NAME=VALUE ...]
"""

import ast
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from lpml import data

USAGE = "python -m lpml.data FOLDER SOURCE [NAME=VALUE ...], for example runs/codes digits"


def main(arguments: Sequence[str]) -> int:
    """Writes the folder; 0, or 2 after a sentence about what is wrong."""
    try:
        print(_write(*arguments[:2], settings=arguments[2:]))
    except (TypeError, ValueError, OSError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 2
    except MemoryError:
        print(
            "so many samples and features do not fit in memory; write chunks of your own by "
            "lpml.data.write_codes",
            file=sys.stderr,
        )
        return 1
    return 0


def _write(folder: str = "", name: str = "", *, settings: Sequence[str]) -> str:
    sources = [
        each
        for each in data.__all__
        if inspect.isfunction(function := getattr(data, each))
        and inspect.signature(function).return_annotation is data.Dataset
        and each not in ("coded", "quantize_inputs")
    ]
    if not folder or folder.startswith("-") or name not in sources:
        raise ValueError(f"usage: {USAGE}; SOURCE is one of {', '.join(sources)}")
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is no setting; write NAME=VALUE")
        given[key] = _value(value)
    source, bits = getattr(data, name), given.pop("input_bits", 8)
    if "input_bits" in inspect.signature(source).parameters:
        given["input_bits"] = bits
    made = source(**given)
    if made.train["x"].dtype.kind != "f":
        raise ValueError(f"the inputs of {name} are pieces of a text, which have no codes")
    chunks, scale = data.codes_of(made, bits)
    data.write_codes(chunks, folder, scale=scale, classes=made.classes)
    return f"{made.size} samples in {bits}-bit codes: {folder}"


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
