"""Shows numbers as number formats hold them.

  python -m lpml.formats posit16 3.14159       code, value, error, neighbours
  python -m lpml.formats e4m3fn 1/3 -- -1e-3   several numbers
  python -m lpml.formats e2m1 --table          all values of a format of at most 8 bits
  python -m lpml.formats --plot accuracy.png posit16 float16 bfloat16

The picture shows the distance of neighbouring values, and the decimals that are right in the
worst case, against magnitude. Errors are those of the number as written, not of its float64.
Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpml.formats.names import by_name
from lpml.formats.show import describe, fields, show, table


class _Usage(ValueError):
    """What was asked for cannot be."""


class _Parser(argparse.ArgumentParser):
    """Wrong usage becomes a sentence without argparse's usage lines."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise _Usage(f"{message}; --help lists the options")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, prints, and turns errors into one sentence and an exit code."""
    arguments = [_as_word(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        print(_answer(_parser().parse_args(arguments)))
        return 0
    except BrokenPipeError:  # the reader of our output, `| head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        sentence = (
            str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        )
        print(" ".join(sentence.split()), file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def _parser() -> argparse.ArgumentParser:
    what, _, further = (__doc__ or "").partition("\n\n")
    parser = _Parser(
        prog="python -m lpml.formats",
        description=what,
        epilog=further,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="FORMAT [NUMBER ...]", help="a format, numbers to show")
    add("--table", action="store_true", help="list all values of FORMAT, at most 8 bits")
    add("--plot", metavar="FILE", help="draw the formats named to FILE (.png, .pdf, .svg)")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _as_word(word: str) -> str:
    """A number like -1e-3 or -inf with a space before it: argparse would see an option."""
    numeric = word[1:2].isdigit() or word[1:2] == "." or word[1:].lower() in ("inf", "nan")
    return f" {word}" if word[:1] == "-" and numeric else word


def _answer(options: argparse.Namespace) -> str:
    """The text that the options ask for."""
    words = [word.strip() for word in options.words]
    if not words:
        raise _Usage("name a format, and a number, --table or --plot FILE; --help has examples")
    if options.plot is not None:
        return _plotted(options.plot, words, table_too=options.table)
    name, *numbers = words
    fmt = by_name(name)
    if options.table:
        if numbers:
            raise _Usage(f"--table lists all of {name}; leave {numbers[0]!r} away")
        return "\n".join(
            f"0x{code:02x}  {_in_fields(fmt, code):<16} {value!r}" for code, value in table(fmt)
        )
    if not numbers:
        raise _Usage(f"add a number to show in {name}, or --table")
    return "\n\n".join(_shown(fmt, number) for number in numbers)


def _plotted(path: str, names: Sequence[str], *, table_too: bool) -> str:
    if table_too:
        raise _Usage("--table and --plot are two commands; give one")
    formats = {name: by_name(name) for name in names}
    for name, fmt in formats.items():
        fields(fmt, 0)  # a sentence for formats of blocks
        if fmt.static_bits is None:
            raise _Usage(f"{name} has no known width")
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise _Usage(f"{path!r} is no picture; end the name with .png, .pdf or .svg")
    if not Path(path).absolute().parent.is_dir():
        raise _Usage(f"the folder of {path!r} does not exist; make it first")
    from lpml.formats.pictures import (
        draw,  # matplotlib: half a second that others need not wait
    )

    try:
        draw(formats, path)
    except OSError as error:
        raise _Usage(f"{path!r} cannot be written: {error.strerror or error}") from error
    return f"wrote {path}"


def _shown(fmt: Any, number: str) -> str:
    found = show(fmt, number)
    digits = -(-int(fmt.static_bits) // 4)
    code = found.code % 2 ** int(fmt.static_bits)
    names = " ".join(name for name, _ in fields(fmt, found.code))
    lines = [
        ("number", f"{number} in {describe(fmt)}"),
        ("code", f"0x{code:0{digits}x}"),
        ("fields", f"{_in_fields(fmt, found.code)}  ({names})"),
        ("value", repr(found.value)),
        ("below", _or_none(found.below)),
        ("above", _or_none(found.above)),
        ("error", _or_none(found.absolute, ".6g")),
        ("relative", _or_none(found.relative, ".6g")),
        ("in ulp", _or_none(found.ulp, ".4g")),
    ]
    return "\n".join(f"{name:<9}{value}" for name, value in lines)


def _in_fields(fmt: Any, code: int) -> str:
    return " ".join(bits for _, bits in fields(fmt, code))


def _or_none(value: float | None, form: str | None = None) -> str:
    if value is None:
        return "none"
    return repr(value) if form is None else f"{value:{form}}"


if __name__ == "__main__":
    sys.exit(main())
