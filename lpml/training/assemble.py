"""From a resolved config to the objects of a run. Nothing here touches a run folder."""

import dataclasses
import functools
import inspect
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from flax.errors import FlaxError

from lpml import data, measurements, models, optim
from lpml.build import ConfigError, build, choices, fits, suggestion
from lpml.parallel import Placement, placement
from lpml.training.buckets import buckets_of
from lpml.training.loop import Schedule
from lpml.training.own_loop import check_own_loop
from lpml.training.program import Batches, Program
from lpml.training.scoring import Translations
from lpml.training.workers import Workers, workers

SECTIONS = ("seed", "precision", "data", "model", "optim", "train")
OPTIONAL = ("mesh", "workers")
# those of a config that trains nothing
MEASURING = ("seed", "precision", "measurement")
PRECISIONS = ("float32", "float64")
OBJECTIVES = ("full", "batch")
MAX_SEED = 2**32 - 1


@functools.cache
def families() -> dict[str, dict[str, Any]]:
    """What `name` may be in each section of a config."""
    return {
        "data": choices(data, data.Dataset),
        "model": choices(models, models.Supervised),
        "optim": choices(optim, optax.GradientTransformation),
        "measurement": choices(measurements, measurements.Measurement),
    }


def is_measurement(config: Mapping[str, Any]) -> bool:
    """Whether a config measures instead of training."""
    return "measurement" in config


def measurement(config: Mapping[str, Any]) -> measurements.Measurement:
    """What a config with the section `measurement` measures; ConfigError as of `assemble`."""
    check_sections(config)
    known = families()["measurement"]
    with jax.enable_x64(config["precision"] == "float64"):
        return build(known, config["measurement"], section="measurement", context={})


def check_sections(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for what no algorithm can use: an unknown or missing section, a
    wrong kind of value at the top, a number that is not finite.
    """
    wanted, optional = (MEASURING, ()) if is_measurement(config) else (SECTIONS, OPTIONAL)
    known = wanted + optional
    for key in config:
        if key not in known:
            kind = "a config that measures" if is_measurement(config) else "a config"
            raise ConfigError(
                f"config.{key} is not read by anything{suggestion(key, known)}; {kind} has "
                f"{', '.join(known)}"
            )
    missing = [key for key in wanted if key not in config]
    if missing:
        raise ConfigError(f"the config lacks {', '.join(missing)}")
    if config["precision"] not in PRECISIONS:
        raise ConfigError(
            f"config.precision = {config['precision']!r} does not exist; choose from "
            f"{', '.join(PRECISIONS)}"
        )
    seed = config["seed"]
    if not fits(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"config.seed = {seed!r} must be a whole number, 0 to {MAX_SEED}")
    for section in known[2:]:
        if section not in config:
            continue
        if not isinstance(config[section], Mapping):
            raise ConfigError(f"config.{section} = {config[section]!r} must be a sub-tree")
        for key, value in config[section].items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"config.{section}.{key} = {value} must be a finite number")


def assemble(config: Mapping[str, Any], *, shapes: bool = True) -> tuple[Program, Schedule]:
    """Builds the program and the schedule; call it with x64 as `config["precision"]` says.

    Args:
      config: nested dicts with the sections `seed`, `precision`, `data`, `model`, `optim`,
        `train`, and where they are wanted `mesh` (devices the run is spread over) and
        `workers` (who exchange gradients).
      shapes: whether to trace the initialisation, which finds a model that does not fit.

    Raises:
      ConfigError: a setting that cannot be used.
      lpml.data.DataError: data that is missing or damaged.
    """
    check_sections(config)
    known = families()
    dtype = config["precision"]
    place = _placement({"data": 1, **config.get("mesh", {})})
    dataset = _dataset(json.dumps(config["data"], sort_keys=True), dtype)
    _check_classes(config["model"].get("name"), known["model"], dataset)
    model = build(
        known["model"],
        config["model"],
        section="model",
        context={"dtype": dtype, "classes": dataset.classes},
    )
    if dataset.input_scale is not None:
        model = dataclasses.replace(model, input_scale=dataset.input_scale)
    alone = transformation(config, dataset, model)
    tx = alone
    if place.mesh is not None:
        tx = transformation(config, dataset, model, mesh=place.mesh)
    program, schedule = build(
        {"train": training},
        {"name": "train", **config["train"]},
        section="train",
        context={
            "model": model,
            "tx": tx,
            "alone": alone,
            "dataset": dataset,
            "seed": config["seed"],
            "place": place,
            "workers": _workers(config, tx, place),
        },
    )
    check_own_loop(config, program)
    if shapes:
        _check_shapes(program, config)
    return program, schedule


def transformation(
    config: Mapping[str, Any],
    dataset: data.Dataset,
    model: models.Supervised,
    settings: Mapping[str, Any] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> optax.GradientTransformation:
    """What `config["optim"]` names.

    Args:
      config: with the sections `optim` and `data`.
      dataset: the data.
      model: the problem.
      settings: replace some of its numbers by traced ones.
      mesh: of the run, for those who share work out over its devices.
    """
    return build(
        families()["optim"],
        {**config["optim"], **(settings or {})},
        section="optim",
        context={
            "samples": dataset.size,
            "input_scale": dataset.input_scale,
            "input_bits": _input_bits(config, dataset),
            "l2": model.l2,
            "problem": _linear_problem(config, dataset, model),
            "mesh": mesh,
        },
    )


def traceable(config: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers of `config["optim"]` that one compiled program can take as arguments.

    They are those whose annotation admits a `jax.Array`; each as the kind of number (int or
    float) that its annotation wants.
    """
    optim = config.get("optim", {})  # none where nothing is trained
    function = families()["optim"].get(optim.get("name"))
    numbers: dict[str, int | float] = {}
    if function is None:
        return numbers
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        value = optim.get(name)
        kinds = typing.get_args(parameter.annotation)
        if jax.Array in kinds and fits(value, float):
            numbers[name] = float(value) if float in kinds else value
    return numbers


def own_default(config: Mapping[str, Any], key: str) -> Any:
    """What None means for the dotted key: the default of the function that takes the setting.

    None where that is None itself, or where no function takes the setting.
    """
    section, _, setting = key.partition(".")
    named = families().get(section, {}).get(config.get(section, {}).get("name"))
    function = training if section == "train" else named
    parameter = inspect.signature(function).parameters.get(setting) if function else None
    if parameter is None or parameter.default is parameter.empty:
        return None
    return parameter.default


def _linear_problem(config, dataset, model):
    """What compiled kernels may know of a linear model; None of another one."""
    if not model.linear:
        return None
    return optim.LinearProblem(
        samples=dataset.size,
        loss=model.loss.name,
        l2=model.l2,
        batch_size=config["train"].get("batch_size"),
        input_scale=dataset.input_scale,
    )


def _input_bits(config, dataset):
    """Width of the grid that inputs lie on; None: its default, or on none."""
    dtype = dataset.train["x"].dtype
    coded = dataset.input_scale is not None and dtype.kind == "i"
    return 8 * dtype.itemsize if coded else config["data"].get("input_bits")


def _placement(mesh: Mapping[str, Any]) -> Placement:
    for key in mesh:
        if key != "data":
            raise ConfigError(
                f"config.mesh.{key} is not read by anything; config.mesh has data"
            )
    if not fits(mesh["data"], int):
        raise ConfigError(f"config.mesh.data = {mesh['data']!r} must be a whole number")
    try:
        return placement(mesh["data"])
    except ValueError as error:
        raise ConfigError(f"config.mesh.{error}") from error


def _workers(config, tx, place):
    """The section `workers`, None where nothing is exchanged."""
    if "workers" not in config:
        return None
    named = {"name": "workers", **config["workers"]}
    made = build({"workers": workers}, named, section="workers", context={})
    if made is None:
        return None
    if place.devices not in (1, made.count):
        raise ConfigError(
            f"config.workers.count = {made.count} must be config.mesh.data = {place.devices}, "
            "a worker a device, or config.mesh.data 1, all on one"
        )
    size = config["train"].get("batch_size")
    if fits(size, int) and size % made.count:
        raise ConfigError(
            f"config.train.batch_size = {size} does not split evenly over "
            f"config.workers.count = {made.count} workers; make it a multiple"
        )
    if made.exchange is not None and isinstance(tx, optim.PeriodicTransformation):
        raise ConfigError(
            f"config.workers: {config['optim']['name']} passes over the whole data, which no "
            "worker sends in few bits; take an optimizer of batch gradients alone, such as sgd"
        )
    return made


# The points of a sweep share their data; read-only by convention, as everywhere.
@functools.lru_cache(maxsize=1)
def _dataset(settings: str, dtype: str) -> data.Dataset:
    source = json.loads(settings)
    # `seed` and `dir` belong to the framework: sources that have no use for them need not
    # have them, so that scripts can set them always
    given = {"dtype": dtype, "seed": source.pop("seed", None), "dir": source.pop("dir", None)}
    return build(families()["data"], source, section="data", context=given)


def training(
    model: models.Supervised,
    tx: optax.GradientTransformation,
    dataset: data.Dataset,
    *,
    alone: optax.GradientTransformation,
    seed: int,
    place: Placement,
    steps: int,
    batch_size: int,
    log_every: int,
    checkpoint_every: int,
    sampling: str = "shuffle",
    objective: str = "full",
    full_batch_size: int = 1024,
    start_from: str | None = None,
    bleu: int | None = None,
    buckets: Sequence[int] = (),
    workers: Workers | None = None,
) -> tuple[Program, Schedule]:
    """The section `train` of a config.

    Args:
      model: the problem.
      tx: the transformation.
      dataset: the data.
      alone: see `Program`.
      seed: of the order of the samples.
      place: the devices.
      steps: length of the training.
      batch_size: samples a step, 1 to the size of the training set.
      log_every: steps between two lines of the log.
      checkpoint_every: steps between two checkpoints.
      sampling: `"shuffle"` (every sample once an epoch), `"replacement"` or `"sequential"`.
      objective: see `Program`.
      full_batch_size: samples at a time in passes over the whole data set.
      start_from: folder of a finished run whose parameters and batch statistics this one
        starts with, e.g. the float network that is to be quantised; a bare name is a run
        beside this one. With it `steps` may be 0: the network is evaluated and that is all.
      bleu: test sentences that are translated greedily at every line of the log for the
        metric `test_bleu` (percent); None: no such metric.
      buckets: lengths of sentences, growing: a batch then has samples of one bucket, and its
        step is no longer than that. Only with `"shuffle"`; see `buckets`.
      workers: who exchange gradients.
    """
    if steps == 0 and start_from is None:
        raise ValueError("steps = 0 must be at least 1, unless start_from names a run")
    if objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise ValueError(f"objective {objective!r} does not exist; choose from {known}")
    if not 1 <= batch_size <= dataset.size:
        raise ValueError(
            f"batch_size = {batch_size} must be 1 to {dataset.size}, the data's size"
        )
    if batch_size % place.devices:
        raise ValueError(
            f"batch_size = {batch_size} does not split evenly over config.mesh.data = "
            f"{place.devices} devices; make it a multiple of {place.devices}"
        )
    if full_batch_size < 1:
        raise ValueError(f"full_batch_size = {full_batch_size} must be at least 1")
    if buckets and sampling != "shuffle":
        raise ValueError(f"buckets need sampling 'shuffle', not {sampling!r}")
    batches = Batches(
        seed=seed,
        size=dataset.size,
        batch_size=batch_size,
        sampling=sampling,
        buckets=buckets_of(dataset, buckets) if buckets else None,
    )
    batches.indices(0, 1)  # refuses an unknown sampling
    program = Program(
        model,
        tx,
        dataset,
        batches=batches,
        objective=objective,
        full_batch_size=full_batch_size,
        place=place,
        alone=alone,
        workers=workers,
        start_from=start_from,
        translations=None if bleu is None else Translations(model, dataset, bleu),
    )
    schedule = Schedule(steps, log_every, checkpoint_every, program.refresh_every)
    return program, schedule


def _check_classes(name, model_choices, dataset):
    function = model_choices.get(name)
    wanted = function and inspect.signature(function).parameters.get("classes")
    if wanted and wanted.default is wanted.empty and not dataset.classes:
        raise ConfigError(
            f"config.model.name = {name!r} is a classifier, but the data set is a regression; "
            "choose a data set with classes or the model 'linear_regression'"
        )


def _check_shapes(program, config):
    """Traces the initialisation: a model that does not fit the data is refused early."""
    try:
        program.shapes()
    except (TypeError, ValueError, ZeroDivisionError, FlaxError) as error:
        names = [config[section]["name"] for section in ("model", "optim", "data")]
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"config.model ({names[0]}) does not go with config.optim ({names[1]}) or "
            f"config.data ({names[2]}, inputs {program.dataset.train['x'].shape[1:]}): {reason}"
        ) from error
