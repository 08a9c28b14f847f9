"""Compiles the kernels and says what they run on: `python -m lpml.native`."""

import sys

from lpml.native.library import instructions, why_not


def main() -> int:
    """Returns the exit code: 1 where there are no kernels."""
    reason = why_not()
    if reason is not None:
        print(f"no native kernels: {reason}", file=sys.stderr)
        return 1
    print(f"native kernels are ready; instruction set {instructions()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
