"""What a run ran on: versions, devices, source revision. Neither machine nor user is named."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "orbax-checkpoint",
    "tensorboard",
    "lpml",
)
_GIT_TIMEOUT_S = 5.0
_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """Returns the content of environment.json, all of it plain JSON values.

    Initialises jax's backend if nothing has done so yet. `git` is None when the folder
    holding lpml is not in a git checkout or git is not installed; versions of packages that
    are not installed as distributions are None.
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "backend": jax.default_backend(),
        "devices": _devices(),
        "processes": jax.process_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "git": _own_git_state(),
    }


def _processor() -> str | None:
    """The processor's model, None where the system does not say it."""
    lines = []
    with contextlib.suppress(OSError):  # other systems than Linux have no such file
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None) or platform.processor() or None


def _devices() -> dict[str, int]:
    """How many devices there are of each kind, over all processes."""
    kinds = [device.device_kind for device in jax.devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get(name), "__version__", None)


@functools.cache  # the points of a sweep all ask
def _own_git_state() -> dict[str, Any] | None:
    return _git_state(Path(__file__).resolve().parent)


def _git_state(folder: Path) -> dict[str, Any] | None:
    """The revision checked out around `folder` and whether files there differ from it."""
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    if revision is None or changes is None:
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Optional locks are off so that a look never gets in the way of the user's own git.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
