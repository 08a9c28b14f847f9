"""Shampoo's matrices shared out over devices: each keeps and solves for its part of them."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from launching import environment, lines, run
from test_several_processes import ended, together

from lpml.optim import shampoo
from lpml.optim.shampoo.owners import own_part
from lpml.parallel import placement
from lpml.training import portable

DIGITS = """
from ml_collections import ConfigDict


def get_config(variant=""):
    config = ConfigDict()
    config.seed, config.precision = 3, "float32"
    config.data = dict(name="digits", train_samples=200)
    config.model = dict(name="mlp", hidden=(12,), activation="tanh")
    config.optim = dict(name="shampoo", learning_rate=0.01, block_size=16, refresh_every=4)
    config.optim.update(REFRESH)
    config.train = dict(steps=24, batch_size=16, log_every=4, checkpoint_every=12)
    return config
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `shared_out.py` says of one device and of four."""
    folder = tmp_path_factory.mktemp("shared_out")
    script = Path(__file__).parent / "shared_out.py"
    command = [sys.executable, str(script), str(folder / "said.json"), str(folder / "runs")]
    variables = environment(JAX_PLATFORMS="cpu")
    subprocess.run(command, env=variables, check=True, timeout=300)
    return json.loads((folder / "said.json").read_text())


both = pytest.mark.parametrize("dtype", ["float32", "float64"])


@both
def test_four_devices_make_the_steps_of_one(said, dtype):
    within = {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert said[dtype]["distance"] <= within
    assert said[dtype]["state_distance"] <= within
    # with roots, at that: three refreshes of all matrices
    assert {count for ok in said[dtype]["ok"].values() for count in ok} == {3}


def assert_shared_out(laid, numbers):
    """Every device has a quarter of every stack, which is filled up by less than 4 rows."""
    assert len(laid) == 4 * len(numbers)
    for name, at in laid.items():
        rows = math.ceil(numbers[name.rpartition("/")[2]] / 4)
        assert at["shape"][0] == 4 * rows, name
        assert at["parts"] == [[rows, *at["shape"][1:]]] * 4, name
        assert at["devices"] == 4, name


@both
def test_each_device_keeps_and_solves_for_a_quarter(said, dtype):
    facts = said[dtype]
    assert_shared_out(facts["laid"], facts["numbers"])
    for devices, solved in ((1, facts["one"]["solved"]), (4, facts["four"]["solved"])):
        share = {name: math.ceil(n / devices) for name, n in facts["numbers"].items()}
        assert sorted(k for k, *_ in solved) == sorted(share.values())
    # stacks of 6, 2 and 8 matrices; what is not a matrix stays whole
    matrices = {"size4_p4": 4, "size5_p4": 5, "size8_p4": 8}
    width = np.dtype(dtype).itemsize
    floats, counters = 0, 0
    for name, size in matrices.items():
        k = facts["numbers"][name]
        floats += 2 * (k - math.ceil(k / 4)) * size**2
        counters += 2 * (k - math.ceil(k / 4))
    saved = facts["one"]["bytes"] - facts["four"]["bytes"]
    assert saved == floats * width + counters * 4


@both
def test_what_fills_a_stack_up_stays_zero_and_is_never_counted(said, dtype):
    # under an absolute damping a matrix of zeros has a root
    assert set(said[dtype]["padding"].values()) == {0.0}
    assert len(said[dtype]["padding"]) == 8  # of the stacks of 6 and 2 matrices


@both
def test_one_program_takes_all_steps(said, dtype):
    assert said[dtype]["one"]["programs"] == said[dtype]["four"]["programs"] == 1


def test_the_host_solves_for_the_rows_of_every_device(said):
    facts = said["hosted"]
    assert facts["distance"] <= 1e-12
    assert facts["roots_from"] == 6
    assert facts["programs"] == [1, 1]
    # stacks of 6, 2 and 8 matrices, after steps 3 and 6 (nobody waited for those of step 9);
    # on four devices in quarters, of which some are nothing but filling
    assert sorted(facts["solved"][0][:6]) == sorted([6, 2, 8] * 2)
    assert sorted(facts["solved"][1][:24]) == sorted([2, 1, 2] * 4 * 2)
    assert facts["share"] == [1, 1]
    assert_shared_out(facts["laid"], facts["numbers"])


def test_the_mesh_of_a_config_is_enough(said):
    facts = said["framework"]
    assert_shared_out(facts["laid"], facts["numbers"])
    assert facts["rest_is_whole"]
    assert facts["compilations"] == {"1": 1, "4": 1}


def test_a_checkpoint_does_not_tell_the_number_of_devices(said):
    facts = said["framework"]
    assert facts["same"] == 0, "resumed on four devices is not the run that never stopped"
    assert facts["differences"].pop("1 then 1") == 0
    assert set(facts["differences"]) == {"1 then 4", "4 then 1", "4 then 4"}
    assert max(facts["differences"].values()) <= 2e-6


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 9), (5, 6), (7, 12)])
def test_owners_have_every_row_once_and_in_order(start, stop):
    parts = [own_part(owner, 3, start, stop) for owner in range(4)]
    assert [row for part in parts for row in range(stop - start)[part]] == [
        *range(stop - start)
    ]
    for owner, part in enumerate(parts):
        for row in range(stop - start)[part]:
            assert (start + row) // 3 == owner


def test_what_may_be_shared_out_stays_whole_on_one_device():
    params = {"w": np.ones((6, 4), np.float32)}
    state = shampoo(0.1, block_size=2).init(params)
    assert placement(1).mesh is None
    assert placement(1).whole(state) is state


def test_what_fills_arrays_up_is_cut_off_and_put_back():
    long, short = ({"a": np.zeros(shape), "b": np.ones(2)} for shape in ((4, 3), (2, 3)))
    long["a"][:2] = 5
    short["a"][:] = 5
    for result, wanted in (
        (portable.gathered(long, short), short),
        (portable.padded(short, long), long),
    ):
        for name, array in wanted.items():
            np.testing.assert_array_equal(result[name], array)


def test_a_mesh_whose_axes_are_explicit_is_refused():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    with pytest.raises(ValueError, match=r"mesh has axes .* give jax\.make_mesh axis_types"):
        shampoo(0.1, mesh=mesh)


@pytest.mark.slow
@pytest.mark.parametrize("refresh", [{}, dict(refresh="host", delay=3)], ids=["", "host"])
def test_two_processes_train_and_resume_as_one_device_does(refresh, tmp_path):
    config = tmp_path / "digits_by_shampoo.py"
    config.write_text(DIGITS.replace("REFRESH", repr(refresh)))
    given = (f"--config={config}",)
    wanted, folder = tmp_path / "wanted", tmp_path / "run"
    assert run(*given, f"--workdir={wanted}").returncode == 0

    def assert_ended_as_wanted():
        assert [row["step"] for row in lines(folder)] == [*range(0, 25, 4)]
        for left, right in zip(lines(folder), lines(wanted), strict=True):
            assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)

    def lose_the_end():
        (folder / "DONE").unlink()
        shutil.rmtree(folder / "checkpoints" / "24")

    for resumes in (0, 1):
        codes, _, errors = ended(together(folder, *given, devices=2), timeout=200)
        assert codes == [0, 0], errors
        assert "".join(errors).count("resumes at step 12") == resumes
        assert_ended_as_wanted()
        lose_the_end()
    done = run(*given, f"--workdir={folder}")
    assert "resumes at step 12" in done.stderr
    assert_ended_as_wanted()
