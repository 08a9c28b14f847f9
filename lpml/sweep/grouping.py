"""Which points of a sweep may share one compiled program, and how many at a time."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from lpml.data import Dataset
from lpml.sweep.jobs import Job, carry_shapes
from lpml.training.assemble import assemble, is_measurement, traceable, transformation
from lpml.training.loop import Schedule
from lpml.training.memory import available, bytes_of, most_bytes
from lpml.training.own_loop import alone
from lpml.training.program import Program
from lpml.training.run_folder import flatten

# More runs than this in one program gain nothing, and each holds three files open.
MOST_POINTS = 128
SHARE_OF_MEMORY = 0.5


class Group(NamedTuple):
    """Jobs that one program can run.

    Attributes:
      jobs: in their order.
      traced: names of the optimizer's numbers in which they differ.
      precision: of all of them.
      alone: why each runs by itself, or the empty string.
    """

    jobs: list[Job]
    traced: tuple[str, ...]
    precision: str
    alone: str

    def settings(self, jobs: Sequence[Job]) -> dict[str, list[int | float]]:
        """Values of the traced settings of some of the jobs."""
        numbers = [traceable(job.config) for job in jobs]
        return {name: [each[name] for each in numbers] for name in self.traced}

    def make_tx(
        self, program: Program
    ) -> Callable[[Mapping[str, Any]], optax.GradientTransformation]:
        """The transformation of a job's program for traced settings."""
        config = self.jobs[0].config

        def make(settings):
            return transformation(config, program.dataset, program.model, settings)

        return make

    def __str__(self) -> str:
        """What is run together, or why not."""
        if self.alone:
            some = ", ".join(job.name for job in self.jobs[:3])
            more = f" and {len(self.jobs) - 3} more" if len(self.jobs) > 3 else ""
            return f"one by one: {some}{more} ({self.alone})"
        names = [f"optim.{name}" for name in self.traced]
        flat = [flatten({k: j.config[k] for k in ("seed", "data")}) for j in self.jobs]
        names += [key for key in flat[0] if len({json.dumps(f[key]) for f in flat}) > 1]
        return f"{len(self.jobs)} points as one program; they differ in {', '.join(names)}"


def group_jobs(jobs: Sequence[Job]) -> list[Group]:
    """Sorts jobs into groups, in the order of their first jobs."""
    found: dict[str, list[Job]] = {}
    why_alone: dict[str, str] = {}
    for job in jobs:
        if reason := _never_together(job.config):
            found.setdefault(reason, []).append(job)
            why_alone[reason] = reason
            continue
        with jax.enable_x64(job.config["precision"] == "float64"):
            program, _ = assemble(job.config, shapes=False)
        key = _key(job.config, program)
        found.setdefault(key, []).append(job)
        if program.place.devices > 1:
            why_alone[key] = "each is spread over the devices already"
        elif program.beside.alone:
            why_alone[key] = program.beside.alone
        elif reason := alone(program.tx):
            why_alone[key] = reason
        elif program.model.heavy and jax.default_backend() == "cpu":
            why_alone[key] = "convolutions under vmap are slow on a CPU"
        elif program.model.alone:
            why_alone[key] = program.model.alone
        elif program.batches.buckets is not None:
            why_alone[key] = "under vmap all branches for the lengths of batches would run"
        elif len(found[key]) > 1:
            why_alone[key] = ""
        else:
            why_alone[key] = "no other point can share its program"
    return [_group(members, why_alone[key]) for key, members in found.items()]


def _never_together(config):
    if is_measurement(config):
        return "measurements are no steps of one program"
    if config["train"].get("start_from") is not None:
        return "each starts from a run of its own"
    return ""


def apart(groups: Sequence[Group]) -> list[str]:
    """The settings that keep groups apart: those that no program takes as an argument."""
    flats = []
    for group in groups:
        config = group.jobs[0].config
        arguments = ["seed", *(f"optim.{name}" for name in traceable(config))]
        flats.append({**flatten(config), **dict.fromkeys(arguments, "an argument")})
    keys = sorted({key for flat in flats for key in flat})
    return [key for key in keys if _differs(flats, key)]


def _differs(flats, key):
    """Whether configs whose section names the same function disagree on a setting."""
    name = f"{key.partition('.')[0]}.name"
    seen: dict[str, set[str]] = {}
    for flat in flats:
        of = "" if key == name else str(flat.get(name))
        seen.setdefault(of, set()).add(json.dumps(flat.get(key)))
    return any(len(values) > 1 for values in seen.values())


def load(jobs: Sequence[Job]) -> tuple[list[Program], Schedule]:
    """The programs of jobs of one group, those of equal data with one copy of it."""
    programs: list[Program] = []
    datasets: dict[str, Dataset] = {}
    for job in jobs:
        program, schedule = assemble(job.config, shapes=False)
        settings = json.dumps(job.config["data"])
        program.dataset = datasets.setdefault(settings, program.dataset)
        programs.append(program)
    return programs, schedule


def chunk_size(group: Group) -> int:
    """How many of the group's jobs fit in half of the memory, at least 1, at most 128.

    Call it with x64 as the group's precision says.
    """
    (program,), _ = load(group.jobs[:1])
    carry = carry_shapes(group.jobs[0].config)
    pure = program.pure(program.tx)
    data = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in program.dataset.train.items()}
    index = jax.ShapeDtypeStruct((program.batches.batch_size,), "int32")
    each = 3 * bytes_of(carry) + max(
        most_bytes(pure.step, carry, data, index),
        most_bytes(pure.evaluate_with_gradient, carry.state, data),
    )
    if len({json.dumps(job.config["data"]) for job in group.jobs}) > 1:
        each += sum(v.nbytes for v in program.dataset.train.values())
    return max(1, min(MOST_POINTS, int(available() * SHARE_OF_MEMORY / each)))


def _key(config, program):
    """Equal for configs of one program: all that is static, as text."""
    data = program.dataset
    shapes = jax.tree.map(lambda v: f"{v.dtype}{v.shape}", (data.train, data.test))
    static = {
        **config,
        "seed": None,
        "optim": {**config["optim"], **dict.fromkeys(traceable(config), "traced")},
        # of the data, only what programs are built from
        "data": [shapes, data.classes, data.input_scale, config["data"].get("input_bits")],
    }
    return json.dumps(static, sort_keys=True)


def _group(jobs, why_alone):
    numbers = [traceable(job.config) for job in jobs]
    traced = tuple(name for name in numbers[0] if len({each[name] for each in numbers}) > 1)
    return Group(jobs, traced, jobs[0].config["precision"], why_alone)
