import logging as python_logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.training import checkpoint, manifest
from lpml.training.checkpoint import CheckpointMismatch, Checkpoints


class Extra(NamedTuple):
    codes: jax.Array
    nothing: None
    empty: tuple


def state(seed=0.0):
    params = {"dense/~": {"kernel": jnp.arange(12.0).reshape(3, 4) + seed, "b.": jnp.ones(4)}}
    return {
        "params": params,
        "opt_state": optax.adam(0.1).init(params),
        "key": jax.random.key(int(seed)),
        "keys": jax.random.split(jax.random.key(7, impl="rbg"), 3),
        "extra": Extra(jnp.array([-128, 127], jnp.int8), None, ()),
        "shorts": jnp.array([[-300, 300]], jnp.int16),
        "half": jnp.array([1.5, -2.0], jnp.bfloat16),
        "nibbles": jnp.array([-8, 7], jnp.int4),
        "fp8": jnp.array([0.5], jnp.float8_e4m3fn),
        "scalar": jnp.float32(seed),
        "flag": jnp.array(True),
        "nan": jnp.array([jnp.nan, -0.0, jnp.inf]),
        "hollow": jnp.zeros((0, 3)),
    }


def abstract(tree):
    return jax.eval_shape(lambda: tree)


def words(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert isinstance(left, jax.Array)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert not getattr(left, "weak_type", False), "a key has no weak type at all"
        assert words(left).tobytes() == words(right).tobytes()


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, state(1.0))
    checkpoints.save(2, state(2.0))
    return folder


@pytest.fixture
def copy(two_saved, tmp_path):
    return Path(shutil.copytree(two_saved, tmp_path / "copy"))


@pytest.mark.parametrize("form", [lambda tree: tree, abstract])
def test_everything_comes_back_bit_for_bit(two_saved, form):
    step, found = Checkpoints(two_saved).restore(form(state()))
    assert step == 2
    assert_same(found, state(2.0))
    assert isinstance(found["extra"], Extra)


def test_an_empty_or_absent_folder_restores_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore(state()) is None
    assert checkpoints.steps() == []
    assert not (tmp_path / "none").exists()


def test_sixty_four_bits_with_and_without_x64(tmp_path):
    with jax.enable_x64(True):
        tree = {"w": jnp.array([1 / 3], jnp.float64), "n": jnp.array(2**40)}
        Checkpoints(tmp_path).save(0, tree)
        _, found = Checkpoints(tmp_path).restore(tree)
        assert_same(found, tree)
    with pytest.raises(CheckpointMismatch, match="x64"):
        Checkpoints(tmp_path).restore({"w": np.zeros(1), "n": np.int64(0)})
    with pytest.raises(TypeError, match="x64"):
        Checkpoints(tmp_path).save(1, {"w": np.zeros(1)})


def test_restored_arrays_are_where_the_run_has_them_and_may_be_donated(two_saved):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {**state(), "half": jax.device_put(state()["half"], place)}
    _, found = Checkpoints(two_saved).restore(like)
    assert found["half"].committed
    assert not found["shorts"].committed
    double = jax.jit(lambda x: x * 2, donate_argnums=0)
    assert double(found["params"]["dense/~"]["kernel"])[0, 1] == 6.0


def test_the_newest_are_kept_and_nothing_else_is_left(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 5, 9, 10, 100):
        checkpoints.save(step, {"w": jnp.full(3, step)})
    assert checkpoints.steps() == [9, 10, 100]
    assert checkpoints.steps()[-1] == 100
    assert sorted(os.listdir(tmp_path)) == ["10", "100", "9"]


def test_the_same_step_is_replaced_and_later_steps_are_dropped(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(7, {"w": jnp.zeros(3)})
    checkpoints.save(7, {"w": jnp.ones(3)})
    assert_same(checkpoints.restore({"w": jnp.zeros(3)})[1], {"w": jnp.ones(3)})
    checkpoints.save(4, {"w": jnp.full(3, 4.0)})
    assert os.listdir(tmp_path) == ["4"]


def changed(**values):
    return {**state(), **values}


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            changed(half=jnp.zeros(3, jnp.bfloat16)),
            r"bfloat16\[2\] at leaf \['half'\].*bfloat16\[3\]",
        ),
        (
            changed(half=jnp.zeros(2, jnp.float16)),
            r"bfloat16\[2\] at leaf \['half'\].*float16\[2\]",
        ),
        (changed(new=jnp.zeros(2)), r"no leaf \['new'\], which is float32\[2\]"),
        ({k: v for k, v in state().items() if k != "flag"}, r"leaf \['flag'\], bool\[\]"),
        (changed(opt_state=optax.sgd(1.0).init({})), r"opt_state"),
        (
            changed(key=jax.random.key(0, impl="rbg")),
            r"key<fry>\[\] at leaf \['key'\].*key<rbg>",
        ),
        (changed(key=jnp.zeros(2, jnp.uint32)), r"\['key'\].*uint32\[2\]"),
    ],
)
def test_another_tree_is_refused_in_one_sentence(two_saved, like, message):
    with pytest.raises(CheckpointMismatch, match=message) as caught:
        Checkpoints(two_saved).restore(like)
    assert str(two_saved / "2") in str(caught.value)
    assert "\n" not in str(caught.value)


DAMAGES = {
    "half": lambda b: b[: len(b) // 2],
    "emptied": lambda _: b"",
    "deleted": None,
    "garbage": lambda b: np.random.default_rng(0).bytes(max(len(b), 9)),
    "one bit": lambda b: bytes([*b[: len(b) // 2], b[len(b) // 2] ^ 16, *b[len(b) // 2 + 1 :]]),
    "longer": lambda b: b + b"\0",
}


def damage(file, how):
    content = file.read_bytes()
    if DAMAGES[how] is None:
        file.unlink()
        return True
    if how == "one bit" and not content:
        return False
    file.write_bytes(DAMAGES[how](content))
    return file.read_bytes() != content


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_to_any_file_falls_back_to_the_older_checkpoint(copy, caplog, how):
    whole = copy / "2"
    spare = copy.parent / "spare"
    shutil.copytree(whole, spare)
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert len(files) > 5
    for name in files:
        caplog.clear()
        if damage(whole / name, how):
            step, found = Checkpoints(copy).restore(state())
            assert step == 1, f"{name} was believed"
            assert_same(found, state(1.0))
            (record,) = caplog.records
            assert record.levelname == "WARNING"
            assert str(whole) in record.getMessage()
            assert "\n" not in record.getMessage()
        shutil.rmtree(whole)
        shutil.copytree(spare, whole)
    assert Checkpoints(copy).restore(state())[0] == 2


def test_what_orbax_itself_refuses_is_passed_over_too(copy, monkeypatch):
    from orbax.checkpoint import v1

    load = v1.load

    def refuse(path):
        if path.name == "2":
            raise KeyError("a format of another version")
        return load(path)

    monkeypatch.setattr(v1, "load", refuse)
    step, found = Checkpoints(copy).restore(state())
    assert step == 1
    assert_same(found, state(1.0))


def test_a_folder_of_another_step_is_not_believed(copy):
    shutil.move(copy / "2", copy / "3")
    assert Checkpoints(copy).restore(state())[0] == 1


def test_left_overs_of_a_kill_are_ignored_and_then_removed(copy):
    shutil.copytree(copy / "2", copy / ".writing" / "new.orbax-checkpoint-tmp")
    shutil.copytree(copy / "2", copy / ".trash-9")
    (copy / "5").mkdir()
    (copy / "notes.txt").write_text("mine")
    checkpoints = Checkpoints(copy)
    assert checkpoints.restore(state())[0] == 2
    checkpoints.save(6, state(6.0))
    assert sorted(os.listdir(copy)) == ["2", "6", "notes.txt"], "unreadable 5 must not count"


def test_none_when_nothing_can_be_read(copy):
    for step in "12":
        (copy / step / manifest.NAME).write_text("{}")
    assert Checkpoints(copy).restore(state()) is None


def test_a_kill_amid_saving_leaves_a_whole_checkpoint(tmp_path):
    code = """
        import sys
        import jax.numpy as jnp
        from lpml.training.checkpoint import Checkpoints
        checkpoints = Checkpoints(sys.argv[1])
        for step in range(10**6):
            checkpoints.save(step, {"w": jnp.full(5000, step), "step": jnp.int32(step)})
            print(step, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 4:
                break
        seen = 4
        try:
            process.wait(timeout=0.037)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        seen = max([seen, *map(int, process.stdout.read().split())])
    step, found = Checkpoints(tmp_path).restore(
        {"w": jnp.zeros(5000, int), "step": jnp.int32(0)}
    )
    assert step >= seen
    assert int(found["step"]) == step
    assert bool((found["w"] == step).all())


@pytest.mark.parametrize("tree", [{}, {"a": None}, {"a": jnp.zeros(0)}])
def test_nothing_to_save_is_refused(tmp_path, tree):
    with pytest.raises(ValueError, match="no array"):
        Checkpoints(tmp_path).save(0, tree)


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"\['lr'\] is a float"):
        Checkpoints(tmp_path).save(0, {"lr": 0.1})
    with pytest.raises(ValueError, match="step"):
        Checkpoints(tmp_path).save(-1, {"w": jnp.ones(1)})
    with pytest.raises(ValueError, match="keep"):
        Checkpoints(tmp_path, keep=0)


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(0, state())


def test_a_full_disk_is_an_os_error_and_loses_nothing(copy, monkeypatch):
    usage = shutil.disk_usage(copy)._replace(free=1000)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="No space left") as caught:
        Checkpoints(copy).save(3, state(3.0))
    assert caught.value.filename == str(copy)
    assert sorted(os.listdir(copy)) == ["1", "2"]
    assert_same(Checkpoints(copy).restore(state())[1], state(2.0))


def test_a_write_that_fails_inside_orbax_is_an_os_error(tmp_path):
    code = """
        import resource, sys
        import jax, jax.numpy as jnp
        from lpml.training.checkpoint import Checkpoints
        checkpoints = Checkpoints(sys.argv[1])
        checkpoints.save(1, {"w": jnp.ones(5)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (30000,))})
        except OSError as error:
            assert error.filename == sys.argv[1], error
        else:
            raise SystemExit("no error")
        assert checkpoints.restore({"w": jnp.zeros(5)})[0] == 1
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["1"]


def test_orbax_is_silent_and_imported_late_and_others_are_heard(tmp_path):
    code = """
        import sys
        from absl import logging
        from lpml.training.checkpoint import Checkpoints
        import jax.numpy as jnp
        assert not [name for name in sys.modules if name.startswith("orbax")]
        logging.set_verbosity(logging.DEBUG)
        checkpoints = Checkpoints(sys.argv[1])
        for step in range(3):
            checkpoints.save(step, {"w": jnp.ones(5)})
        checkpoints.restore({"w": jnp.ones(5)})
        logging.info("heard")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # JAX itself logs at this level too; only orbax has to keep quiet.
    lines = [line for line in done.stderr.splitlines() if "jax" not in line.lower()]
    assert len(lines) == 1
    assert lines[0].endswith("heard")


def test_logging_is_as_before_afterwards(tmp_path):
    loggers = [python_logging.getLogger(), python_logging.getLogger("absl")]
    before = [(logger.level, list(logger.filters)) for logger in loggers]
    Checkpoints(tmp_path).save(0, {"w": jnp.ones(5)})
    assert [(logger.level, list(logger.filters)) for logger in loggers] == before
