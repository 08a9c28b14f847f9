"""Trainings of inputs that stay integer codes: those of the floats, in the codes' memory."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from compiling import needs_kernels

from lpml import data
from lpml.training.assemble import assemble
from lpml.training.run import train

ROOT = Path(__file__).parent.parent.parent
METHODS = dict(
    sgd=dict(),
    adam=dict(),
    svrg=dict(inner_steps=10),
    lp_svrg=dict(inner_steps=10, bits=8, radius=100.0),
    halp=dict(inner_steps=10, bits=8, mu=4.0),
    lm_halp=dict(inner_steps=10, bits=8, mu=4.0),
)


def config(
    method, source, model="linear_regression", *, precision="float64", optim=None, **training
):
    return dict(
        seed=3,
        precision=precision,
        data=source,
        model=dict(name=model, l2=0.01),
        optim=dict(name=method, learning_rate=0.01, **METHODS[method]) | (optim or {}),
        train=dict(steps=30, batch_size=2, log_every=10, checkpoint_every=30, full_batch_size=7)
        | training,
    )


def lines(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


def compare(method, source, model, tmp_path, **settings):
    """A run over codes of the source gives the numbers of one over its floats."""
    made = getattr(data, source["name"])(
        **{k: v for k, v in source.items() if k != "name"},
        dtype=settings.get("precision", "float64"),
    )
    parts, scale = data.codes_of(made)
    data.write_codes(parts, tmp_path / "set", scale=scale, classes=made.classes)
    coded = dict(name="coded", dir=str(tmp_path / "set"))
    train(config(method, coded, model, **settings), str(tmp_path / "coded"))
    train(config(method, source, model, **settings), str(tmp_path / "floats"))
    tolerance = 1e-4 if settings.get("precision") == "float32" else 1e-11
    found, wanted = lines(tmp_path / "coded"), lines(tmp_path / "floats")
    assert wanted[-1]["loss"] < wanted[0]["loss"]
    for row, like in zip(found, wanted, strict=True):
        assert row.keys() == like.keys()
        for name, value in like.items():
            assert row[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("method", METHODS)
def test_every_optimizer_sees_the_inputs_that_the_codes_stand_for(method, tmp_path):
    # 30 samples in passes of 7: four whole parts and a rest
    source = dict(name="synthetic_regression", samples=30, features=4, seed=1, input_bits=8)
    compare(method, source, "linear_regression", tmp_path)


@needs_kernels
@pytest.mark.parametrize("method", ["sgd", "svrg", "halp"])
def test_compiled_kernels_do_too(method, tmp_path):
    source = dict(name="synthetic_regression", samples=30, features=4, seed=1, input_bits=8)
    # the rows of sgd and svrg are float32, those of halp the codes themselves
    settings = dict(precision="float32", optim=dict(backend="native"), batch_size=1)
    compare(method, source, "linear_regression", tmp_path, **settings)


@pytest.mark.parametrize(
    ("model", "classes"), [("logistic_regression", 2), ("multinomial_regression", 3)]
)
def test_classifiers_do_too_in_float32(model, classes, tmp_path):
    source = dict(name="synthetic_classification", samples=40, features=6, informative=4)
    source |= dict(classes=classes, seed=1, input_bits=8)
    compare("svrg", source, model, tmp_path, precision="float32")


@pytest.fixture
def folder(tmp_path):
    codes = np.random.default_rng(0).integers(-127, 128, (64, 32)).astype(np.int8)
    data.write_codes([(codes, np.ones(64))], tmp_path / "set", scale=0.01)
    return dict(name="coded", dir=str(tmp_path / "set"))


def test_a_cpu_trains_on_the_map_itself(folder):
    program, _ = assemble(config("svrg", folder, precision="float32"))
    mapped = program.dataset.train["x"]
    assert isinstance(mapped, np.memmap)
    assert program.train["x"].dtype == np.int8
    assert program.train["x"].unsafe_buffer_pointer() == mapped.ctypes.data


@pytest.mark.parametrize("method", METHODS)
def test_no_value_of_a_program_is_the_set_in_floats(method, folder):
    program, _ = assemble(config(method, folder, precision="float32"))
    pure = program.pure(program.tx)
    carry, train = program.shapes(), program.dataset.train
    index = np.zeros(2, np.int32)
    traced = [
        jax.make_jaxpr(pure.step)(carry, train, index),
        jax.make_jaxpr(pure.evaluate_with_gradient)(carry.state, train),
    ]
    if program.refresh_every:
        traced.append(jax.make_jaxpr(pure.refresh)(carry, train, {}))
    for jaxpr in traced:
        text = str(jaxpr)
        assert "i8[64,32]" in text
        assert "f32[64,32]" not in text


# Trains within a limit on the memory that is not a map of a file: the floats would not fit.
CHILD = """
import resource, sys
import jax, numpy as np
from lpml import data
from lpml.training.assemble import families
from lpml.training.run import train

source, workdir, kind = sys.argv[1:]
config = dict(
    seed=1, precision="float32", data=dict(name="coded", dir=source),
    model=dict(name="linear_regression"),
    optim=dict(name="svrg", learning_rate=1e-3, inner_steps=64),
    train=dict(steps=64, batch_size=4, log_every=64, checkpoint_every=64),
)

def floats(*, dir: str, dtype: str) -> data.Dataset:
    made = data.coded(dir=dir, dtype=dtype)
    x = made.train["x"].astype(np.float32)
    return made._replace(train={**made.train, "x": x}, input_scale=None)

if kind == "floats":
    families()["data"]["coded"] = floats
jax.jit(lambda a: a @ a)(np.ones((64, 64), np.float32))  # the compiler and its threads
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 420 * 2**20,) * 2)
train(config, workdir)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts as Linux does")
def test_codes_train_where_their_floats_have_no_room(tmp_path):
    """128 MB of codes under a limit of 420 MB beside the compiler; the floats take 512 MB."""
    random = np.random.default_rng(0)

    def chunks():
        for _ in range(32):
            x = random.integers(-127, 128, (4096, 1024), np.int8)
            yield x, x[:, 0] / 127

    data.write_codes(chunks(), tmp_path / "set", scale=1 / 127)
    children = {
        kind: subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path / "set", tmp_path / kind, kind],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for kind in ("codes", "floats")
    }  # fmt: skip
    said = {kind: child.communicate(timeout=120)[1] for kind, child in children.items()}
    (tmp_path / "set" / "x.npy").unlink()
    assert children["codes"].returncode == 0, said["codes"]
    assert lines(tmp_path / "codes")[-1]["loss"] < lines(tmp_path / "codes")[0]["loss"]
    assert children["floats"].returncode == 1
    assert "needs more memory than there is" in said["floats"]
