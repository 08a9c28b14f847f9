"""From the flags of a command line to the engine that runs the points."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from lpml.build import ConfigError
from lpml.sweep.cluster import await_cluster, import_ray
from lpml.sweep.jobs import Engine
from lpml.sweep.on_ray import run_on_ray
from lpml.sweep.processes import run_in_processes
from lpml.sweep.serial import run_serially
from lpml.sweep.vectorised import run_vectorised

ENGINES = ("vectorised", "serial", "processes", "ray")
# Which engine each flag belongs to.
FLAGS = {
    "chunk": ("vectorised",),
    "jobs": ("processes",),
    "devices": ("processes",),
    "memory_fraction": ("processes",),
    "address": ("ray",),
    "cpus_per_point": ("ray",),
    "gpus_per_point": ("ray",),
    "retries": ("ray",),
}


class EngineSettings(NamedTuple):
    """What the command line says of the engine; None where it says nothing.

    Attributes:
      engine: one of ENGINES; default: processes with `jobs`, ray with `address`, else
        vectorised.
      chunk: most points in one vectorised program, at least 1.
      jobs: worker processes, at least 1.
      devices: GPUs that the worker processes share, `0,1`; default: all that are visible.
      memory_fraction: of a GPU for each worker process, above 0, at most 1; default: 0.9 over
        the workers of that GPU.
      address: of a running Ray cluster.
      cpus_per_point: CPU cores that Ray keeps for a point.
      gpus_per_point: GPUs that Ray keeps for a point, also fractions.
      retries: how often Ray tries a point again whose node died.
    """

    engine: str | None = None
    chunk: int | None = None
    jobs: int | None = None
    devices: str | None = None
    memory_fraction: float | None = None
    address: str | None = None
    cpus_per_point: float | None = None
    gpus_per_point: float | None = None
    retries: int | None = None


def choose_engine(settings: EngineSettings) -> Engine:
    """The engine that the settings ask for.

    Raises:
      ConfigError: settings that contradict each other or are out of range.
    """
    name = _name(settings)
    for flag, least in _LEAST.items():
        value = getattr(settings, flag)
        if value is not None and not value >= least:
            raise ConfigError(f"--{flag}={value} must be at least {least}")
    if name == "serial":
        return run_serially
    if name == "vectorised":
        return functools.partial(run_vectorised, chunk=settings.chunk)
    if name == "processes":
        return _processes(settings)
    return _ray(settings)


_LEAST = {"chunk": 1, "jobs": 1, "cpus_per_point": 0, "gpus_per_point": 0, "retries": 0}


def _processes(settings):
    fraction = settings.memory_fraction
    if fraction is not None and not 0 < fraction <= 1:
        raise ConfigError(f"--memory_fraction={fraction} must be above 0 and at most 1")
    devices = None
    if settings.devices is not None:
        devices = [name.strip() for name in settings.devices.split(",")]
        if not all(devices):
            raise ConfigError(f"--devices={settings.devices} must be names or numbers, 0,1")
    return functools.partial(
        run_in_processes,
        workers=settings.jobs or os.cpu_count() or 1,
        devices=devices,
        memory_fraction=fraction,
    )


def _ray(settings):
    # said before anything is made
    import_ray()
    if settings.address is not None:
        await_cluster(settings.address)
    given = {
        "address": settings.address,
        "cpus": settings.cpus_per_point,
        "gpus": settings.gpus_per_point,
        "retries": settings.retries,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return functools.partial(run_on_ray, **chosen)


def _name(settings):
    """The one engine that fits every flag given."""
    given = [flag for flag in FLAGS if getattr(settings, flag) is not None]
    wanted = dict.fromkeys(FLAGS[flag][0] for flag in given)
    name = settings.engine or next(iter(wanted), "vectorised")
    for flag in given:
        if name not in FLAGS[flag]:
            source = f"--engine={name}" if settings.engine else f"--{given[0]}"
            raise ConfigError(
                f"--{flag} belongs to the engine {' or '.join(FLAGS[flag])} and does not go "
                f"with {source}; leave one of them out"
            )
    return name
