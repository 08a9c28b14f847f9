"""Settings of the whole test run: compile cache, checked shape annotations."""

import os
import sys
from pathlib import Path

# Before jax is imported, and for the processes that tests start. Most of the suite's time is
# compiling, of which XLA's highest level takes up to twice as long for networks as the one
# below; last bits may differ. Whoever sets a level tests with it.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=2"
    ).strip()

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parent.parent
# `python -m pytest` and `pytest` alike: configs/ and launch.py are beside lpml, not inside it
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# One folder for all xdist workers; tiny programs are most of what tests compile.
CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(ROOT / ".cache" / "jax-tests")
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Array annotations become checks; must come before the first import of lpml. Only where
# annotations state shapes: those of lpml.optim say `Params`, which is anything.
install_import_hook("lpml.formats", "beartype.beartype")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A half of the suite in its order for either worker, then shares of what is left.

    Neighbours need the same programs and fixtures, which xdist's turns would make twice.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


# A single test that takes minutes: begun last, it would leave one worker alone with it.
FIRST = "test_readme.py"


def pytest_collection_modifyitems(items):
    """What takes longest comes first; the rest stays in order."""
    items.sort(key=lambda item: item.path.name != FIRST)


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Launches and gives the one sentence of the refusal; nothing may have been made."""

    from launching import here  # not above: it imports lpml

    def launch(*arguments, code=2, workdir=tmp_path / "run", fresh=True):
        capsys.readouterr()
        flags = [] if workdir is None else [f"--workdir={workdir}"]
        assert here(monkeypatch, *arguments, *flags) == code
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        assert "Traceback" not in said
        assert "Error:" not in said.partition("raises")[0], "a class name is no sentence"
        assert not fresh or workdir is None or not os.path.exists(workdir)
        return said.strip()

    return launch
