"""Compiles the kernels and says what they run on: `python -m lpml.native`."""

import argparse
import sys

from lpml.native.library import instructions, why_not


def main() -> int:
    """Returns the exit code: 1 where there are no kernels."""
    argparse.ArgumentParser(
        prog="python -m lpml.native",
        description="Compiles the native kernels where that is still to be done, and says what "
        "they run on, or why there are none. They are kept in LPML_CACHE; CXX is the compiler.",
    ).parse_args()
    reason = why_not()
    if reason is not None:
        print(f"no native kernels: {reason}", file=sys.stderr)
        return 1
    print(f"native kernels are ready; instruction set {instructions()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
