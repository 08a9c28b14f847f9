"""The formats at the level that users compile at; the other tests have a lower one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
SUITES = ("formats", "contracts/test_formats_contract.py", "contracts/test_scaled_contract.py")


@pytest.mark.slow
def test_all_of_it_holds_at_xlas_own_level():
    """Exact products and sums rest on what the compiler may join, and on what it may not."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=3"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SUITES],
        cwd=TESTS, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
