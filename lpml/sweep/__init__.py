"""Many runs: the points of an experiment or a sweep, run one after another."""

from lpml.sweep.experiment import run_experiment
from lpml.sweep.serial import Outcome, run_points

__all__ = ["Outcome", "run_experiment", "run_points"]
