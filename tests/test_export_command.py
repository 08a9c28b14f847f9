"""`--export`: a run's quantised network as a file of its true size, and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import here

from lpml import models
from lpml.data import digits
from lpml.quant import QuantizedWeights
from lpml.training.export import load_quantized

CONFIG = "--config=configs/laq_networks.py:tiny"


def test_an_exported_network_is_the_one_that_was_trained(monkeypatch, tmp_path, capsys):
    folder, file = tmp_path / "run", tmp_path / "net.npz"
    assert here(monkeypatch, CONFIG, f"--workdir={folder}") == 0
    assert here(monkeypatch, f"--export={file}", f"--workdir={folder}") == 0
    said = capsys.readouterr().out
    assert f"{file.stat().st_size} bytes; as float32 the weights take 4840" in said
    tree = load_quantized(file)
    assert tree["Dense_0"]["kernel"].bits == 3
    params = jax.tree.map(
        lambda leaf: leaf.dequantize() if isinstance(leaf, QuantizedWeights) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, QuantizedWeights),
    )
    model = models.mlp(classes=10, hidden=(16,), activation="relu")
    test = digits(train_samples=128).test
    outputs = model.outputs(params, {}, {"x": jnp.asarray(test["x"])})
    accuracy = np.mean(np.argmax(outputs, 1) == test["y"])
    trained = json.loads((folder / "DONE").read_text())["test_accuracy"]
    assert accuracy == pytest.approx(trained, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "add --workdir=FOLDER"),
        (("--workdir=nowhere",), "nowhere is no run"),
        (("--size=tiny",), "--size means nothing together with --export"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(arguments, words, monkeypatch, capsys):
    assert here(monkeypatch, "--export=net.npz", *arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_run_without_quantised_weights_is_refused(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "run"
    short = ("--config.train.steps=2", f"--workdir={folder}")
    assert here(monkeypatch, "--config=configs/laq_networks.py:mlp_float,tiny", *short) == 0
    assert here(monkeypatch, f"--export={tmp_path / 'net'}", f"--workdir={folder}") == 2
    assert "weights are not quantised" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "net").exists()
