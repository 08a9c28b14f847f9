"""Which accelerator each worker process of this machine gets, and how much of its memory."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

# What the workers of one device share; the rest is for the driver and the compiler.
SHARED_FRACTION = 0.9


def visible_devices() -> list[str]:
    """The accelerators of this machine as CUDA names them; none on a CPU-only one.

    CUDA_VISIBLE_DEVICES is believed where it is set; JAX itself is not asked, because that
    would take memory on every one of them.
    """
    if os.environ.get("JAX_PLATFORMS", "").partition(",")[0] == "cpu":
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = [name.strip() for name in listed.split(",")]
        # CUDA stops at the first name that is no device
        return names[: names.index("-1")] if "-1" in names else [n for n in names if n]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        asked = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    names = re.findall(r"UUID: ([\w/-]+)\)", asked.stdout)
    slices = [name for name in names if name.startswith("MIG-")]
    return slices or names  # a device that is cut into slices takes no work itself


def settings(
    slot: int, *, workers: int, devices: Sequence[str], memory_fraction: float | None
) -> dict[str, str]:
    """The variables of a worker: its device and its share of the memory; none without one.

    Args:
      slot: 0 to `workers` - 1.
      workers: processes at a time.
      devices: the devices to share out, round robin.
      memory_fraction: of a device, for each worker, in (0, 1); None shares it evenly.
    """
    if not devices:
        return {}
    at = slot % len(devices)
    sharing = len(range(at, workers, len(devices)))
    fraction = memory_fraction or SHARED_FRACTION / sharing
    return {
        "CUDA_VISIBLE_DEVICES": devices[at],
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{fraction:.4g}",
    }
