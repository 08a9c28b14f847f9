"""Many runs: the points of an experiment or a sweep, and the engines that run them."""

from lpml.sweep.experiment import run_experiment
from lpml.sweep.jobs import Engine, Job, Outcome
from lpml.sweep.points import run_points
from lpml.sweep.serial import run_serially
from lpml.sweep.vectorised import run_vectorised

__all__ = [
    "Engine",
    "Job",
    "Outcome",
    "run_experiment",
    "run_points",
    "run_serially",
    "run_vectorised",
]
