"""Which metrics points will end with, and which of them a sweep is judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from lpml.build import ConfigError, suggestion
from lpml.sweep.jobs import Job, carry_shapes
from lpml.training.assemble import assemble, is_measurement, measurement

_HIGHER = ("accuracy", "auc", "bleu", "score", "sqnr")


class Metric(NamedTuple):
    """A final metric and its good direction."""

    name: str
    higher: bool

    def __str__(self) -> str:
        """The metric in words."""
        return f"{self.name} at the end, {'higher' if self.higher else 'lower'} is better"


def choose_metric(jobs: Sequence[Job], name: str | None = None) -> Metric:
    """The named metric, or `grad_norm` of full objectives, else `test_accuracy`, else `loss`.

    Of measurements the first that they name.

    Args:
      jobs: at least one.
      name: what to take.

    Raises:
      ConfigError: none of the jobs will have a metric of that name.
    """
    kinds = {json.dumps(_telling(job.config), sort_keys=True): job.config for job in jobs}
    known = dict.fromkeys(metric for config in kinds.values() for metric in names(config))
    if name is None and all(is_measurement(job.config) for job in jobs):
        name = measurement(jobs[0].config).metrics[0]
    elif name is None:
        full = all(job.config["train"].get("objective", "full") == "full" for job in jobs)
        usual = ("grad_norm",) if full else ("test_accuracy", "loss")
        name = next(metric for metric in (*usual, "loss") if metric in known)
    elif name not in known:
        raise ConfigError(
            f"--metric={name} is no metric of these runs{suggestion(name, known)}; "
            f"there are {', '.join(known)}"
        )
    return Metric(name, any(word in name for word in _HIGHER))


def names(config: Mapping[str, Any]) -> list[str]:
    """Names of the final metrics of a run, from shapes alone: nothing is computed."""
    if is_measurement(config):
        return list(measurement(config).metrics)
    with jax.enable_x64(config["precision"] == "float64"):
        program, _ = assemble(config, shapes=False)
        carry = carry_shapes(dict(config))
        full = program.objective == "full"
        pure = program.pure(program.tx)
        found = dict.fromkeys(carry.sums if full else ())
        found.pop("batch_grad_norm", None)
        if full:
            found |= jax.eval_shape(
                pure.evaluate_with_gradient, carry.state, _shapes(program.dataset.train)
            )
        else:
            found |= {key.removeprefix("batch_"): None for key in carry.sums}
        if program.dataset.test is not None:
            test = jax.eval_shape(pure.evaluate, carry.state, _shapes(program.dataset.test))
            found |= {f"test_{key}": None for key in test}
        if program.translations is not None:
            found["test_bleu"] = None
        found |= jax.eval_shape(pure.report, carry.state)
    return [*sorted(found), "steps_per_second"]


def _telling(config):
    """What decides which metrics there are."""
    if is_measurement(config):
        return config["measurement"]
    parts = {key: config[key]["name"] for key in ("data", "model", "optim")}
    return {
        **parts,
        "objective": config["train"].get("objective"),
        "bleu": config["train"].get("bleu"),
        "workers": config.get("workers"),
    }


def _shapes(data):
    return {key: jax.ShapeDtypeStruct(v.shape, v.dtype) for key, v in data.items()}
