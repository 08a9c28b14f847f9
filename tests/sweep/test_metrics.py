"""The metrics that runs will have, against those that they do have."""

import pytest

from lpml.build import ConfigError
from lpml.config import as_plain, load, override
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import choose_metric, names
from lpml.training.run import train


def config(form, **settings):
    changed = {f"train.{key}": value for key, value in settings.items()}
    return as_plain(override(load(f"configs/{form}"), changed))


def jobs(*configs):
    return [Job(str(i), each, f"runs/{i}", ()) for i, each in enumerate(configs)]


@pytest.mark.parametrize(
    "form",
    ["halp_regression.py:tiny", "halp_mlp.py:sgd,tiny", "lenet.py:tiny", "lenet.py:halp,tiny"],
)
def test_names_are_those_that_a_run_ends_with(form, tmp_path):
    settings = config(form, steps=8, log_every=4, checkpoint_every=8)
    final = train(settings, str(tmp_path / "run"))
    assert set(names(settings)) == final.keys() - {"step"}


@pytest.mark.parametrize(
    ("form", "objective", "name", "higher"),
    [
        ("halp_regression.py:tiny", "full", "grad_norm", False),
        ("lenet.py:tiny", "batch", "test_accuracy", True),
        ("halp_regression.py:sgd,tiny", "batch", "loss", False),
    ],
)
def test_what_settings_are_compared_by(form, objective, name, higher):
    metric = choose_metric(jobs(config(form, objective=objective)))
    assert metric == (name, higher)
    assert ("higher" if higher else "lower") in str(metric)


def test_a_named_metric_of_any_point_is_taken():
    both = jobs(config("halp_regression.py:sgd,tiny"), config("halp_regression.py:tiny"))
    assert choose_metric(both, "halp/scale") == ("halp/scale", False)
    assert choose_metric(jobs(config("lenet.py:tiny")), "accuracy").higher


def test_of_a_measurement_the_first_metric_is_taken():
    measured = as_plain(load("configs/vsq_sqnr.py:tiny"))
    assert choose_metric(jobs(measured)) == ("sqnr", True)


def test_an_unknown_metric_is_refused_with_the_list():
    with pytest.raises(ConfigError) as caught:
        choose_metric(jobs(config("halp_regression.py:sgd,tiny")), "los")
    assert str(caught.value) == (
        "--metric=los is no metric of these runs; did you mean 'loss'?; there are batch_loss, "
        "grad_norm, loss, steps_per_second"
    )
