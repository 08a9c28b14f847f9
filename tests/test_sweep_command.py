"""Sweeps as a user launches them: folders, tables, shards, failures, interruptions."""

import csv
import json
import os
import shutil
import signal

import pytest
from launching import ROOT, TINY, assert_same_end, here, run, start, wait_for
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lpml import commands

SHORT = (TINY, "--config.train.steps=400")
AXES = ("--axis=optim.bits=4,8", "--axis=seed=0:2")
NAMES = [f"optim.bits={bits},seed={seed}" for bits in (4, 8) for seed in (0, 1)]


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def done(folder):
    return sorted(path.parent.name for path in folder.glob("*/DONE"))


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.glob("*/[!.]*") if p.is_file()}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of four points and a reference: its folder and its process."""
    folder = tmp_path_factory.mktemp("sweep") / "new" / "s"
    ended = run(*SHORT, *AXES, f"--workdir={folder}")
    assert ended.returncode == 0, ended.stderr
    return folder, ended


def test_each_point_is_a_run_in_a_folder_of_its_name(swept):
    folder, _ = swept
    assert done(folder) == NAMES
    for name in NAMES:
        config = json.loads((folder / name / "config.json").read_text())
        assert f"optim.bits={config['optim']['bits']},seed={config['seed']}" == name
        assert config["train"]["steps"] == 400
    held = json.loads((folder / "sweep.json").read_text())
    assert held["config"]["train"]["steps"] == 400
    assert held["config"]["optim"]["bits"] == 8


def test_the_end_is_a_table_and_its_files(swept):
    folder, ended = swept
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["optim.bits", "n", "grad_norm", "std", "min", "max"]
    assert "grad_norm at the end, lower is better; 4 points: 4 done" in lines
    for name in ("summary.csv", "points.csv", "summary.png"):
        assert (folder / name).exists()
        assert str(folder / name) in ended.stdout
    rows = read(folder / "summary.csv")
    assert [float(row["final.grad_norm"]) for row in rows] == sorted(
        float(row["final.grad_norm"]) for row in rows
    )
    for row in read(folder / "points.csv"):
        final = json.loads((folder / row["run"] / "DONE").read_text())
        assert float(row["final.grad_norm"]) == final["grad_norm"]


def test_tensorboard_compares_the_points_with_their_final_metrics(swept):
    folder, _ = swept
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[0, 1, 2, 3], start_index=0, slice_size=100
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run()
    rows = {group.sessions[0].name: group for group in groups.session_groups}
    assert sorted(rows) == NAMES, "the folder of the sweep is no row"
    for name, row in rows.items():
        final = json.loads((folder / name / "DONE").read_text())
        values = {value.name.tag: value.value for value in row.metric_values}
        assert values["grad_norm"] == pytest.approx(final["grad_norm"], rel=1e-6)
        assert row.hparams["seed"].number_value == int(name[-1])


def test_again_it_only_sums_up(swept, monkeypatch, capsys):
    folder, first = swept
    before = stamps(folder)
    assert here(monkeypatch, *SHORT, *AXES, f"--workdir={folder}") == 0
    assert capsys.readouterr().out == first.stdout
    assert stamps(folder) == before


def test_the_same_folder_takes_more_points_later(swept, monkeypatch, capsys, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "s")
    before = stamps(folder)
    more = ("--axis=optim.bits=4,8,16", "--axis=seed=0:2")
    assert here(monkeypatch, *SHORT, *more, f"--workdir={folder}") == 0
    assert "6 points: 6 done" in capsys.readouterr().out
    assert len(done(folder)) == 6
    assert before.items() <= stamps(folder).items()


def test_a_point_is_the_run_of_its_settings(tmp_path, monkeypatch):
    sweep, alone = tmp_path / "sweep", tmp_path / "alone"
    axes = ("--axis=optim.bits=6", "--axis=variant=halp", "--engine=serial")
    assert here(monkeypatch, *SHORT, *axes, f"--workdir={sweep}") == 0
    flags = ("--config=configs/halp_regression.py:tiny,halp", "--config.train.steps=400")
    assert here(monkeypatch, *flags, "--config.optim.bits=6", f"--workdir={alone}") == 0
    assert_same_end(sweep / "optim.bits=6,variant=halp", alone)


def test_a_sub_tree_means_the_same_as_a_flag_and_as_an_axis(tmp_path, monkeypatch):
    tree = "{'name': 'svrg', 'learning_rate': 0.005, 'inner_steps': 200}"
    for flags, folder in (
        ((f"--config.optim={tree}",), "flag"),
        ((f"--axis=optim={tree}",), "axis"),
        ((f"--config.optim={tree}", "--axis=seed=1"), "base"),
    ):
        assert here(monkeypatch, *SHORT, *flags, f"--workdir={tmp_path / folder}") == 0
    (axis,), (base,) = ((tmp_path / name).glob("*/config.json") for name in ("axis", "base"))
    wanted = (tmp_path / "flag" / "config.json").read_text()
    assert axis.read_text() == base.read_text() == wanted


def test_a_dry_run_lists_the_points_and_makes_nothing(monkeypatch, capsys, tmp_path):
    flags = (*SHORT, "--dry_run", f"--workdir={tmp_path / 'x'}")
    assert here(monkeypatch, *flags, *AXES) == 0
    *points, last = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in points] == NAMES
    assert json.loads(points[0].split("  ")[1]) == {"optim.bits": 4, "seed": 0}
    assert last.startswith("4 points for ")
    assert here(monkeypatch, *flags, *AXES, "--shard=2/3") == 0
    *points, last = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in points] == NAMES[1::3]
    assert last.startswith("1 of 4 points for ")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((TINY,), "halp_regression,tiny-sweep"),
        ((TINY, "--config.seed=3"), "halp_regression,tiny,seed=3-sweep"),
        ((TINY, "--config.data.dir=/x/y"), "halp_regression,tiny-sweep"),
    ],
)
def test_default_folders_are_named_by_config_and_overrides(
    arguments, name, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(commands, "RUNS", str(tmp_path))
    flags = (*arguments, "--axis=optim.bits=4", "--dry_run")
    assert here(monkeypatch, *flags) == 0
    assert f"1 points for {tmp_path / name}," in capsys.readouterr().out


def test_the_sweep_of_a_config_has_full_precision_as_reference(monkeypatch, tmp_path, capsys):
    flags = (*SHORT, "--sweep", "--metric=loss", f"--workdir={tmp_path / 's'}")
    assert here(monkeypatch, *flags) == 0
    assert "loss at the end, lower is better; 21 points: 21 done" in capsys.readouterr().out
    rows = read(tmp_path / "s" / "summary.csv")
    assert {row["optim.bits"] for row in rows} == {"4", "5", "6", "8", "12", "16", ""}
    assert [row["variant"] for row in rows if not row["optim.bits"]] == ["svrg"]
    assert {row["n"] for row in rows} == {"3"}


def test_shards_share_the_points_and_the_last_one_sums_up_all(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    flags = (*SHORT, *AXES, "--engine=serial", f"--workdir={folder}")
    assert here(monkeypatch, *flags, "--shard=2/3") == 0
    assert done(folder) == NAMES[1::3]
    said = capsys.readouterr().out
    assert "4 points: 1 done, 3 unfinished" in said
    assert said.splitlines()[0].split()[-1] == "unfinished"
    assert here(monkeypatch, *flags, "--shard=1/3") == 0
    assert done(folder) == sorted({*NAMES[0::3], *NAMES[1::3]})
    assert here(monkeypatch, *flags, "--shard=3/3") == 0
    assert done(folder) == NAMES
    assert "4 points: 4 done" in capsys.readouterr().out
    assert {row["status"] for row in read(folder / "points.csv")} == {"done"}


def test_a_part_without_points_says_so_and_names_no_file_that_is_not_there(
    monkeypatch, tmp_path, capsys
):
    flags = (*SHORT, *AXES, f"--workdir={tmp_path / 's'}")
    assert here(monkeypatch, *flags, "--shard=7/7") == 0
    said = capsys.readouterr().out
    assert said.startswith("--shard=7/7 has none of the 4 points; nothing was trained\n")
    assert "4 points: 0 done, 4 unfinished" in said
    named = {word.strip(",;") for word in said.split() if word.startswith(str(tmp_path))}
    assert len(named) == 3
    for path in named:
        assert os.path.exists(path)


SGD = ("--config=configs/halp_regression.py:sgd,tiny", "--config.train.steps=400")


@pytest.mark.parametrize("engine", ["serial", "vectorised"])
def test_failed_points_are_reported_and_tried_again(engine, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    axes = ("--axis=optim.learning_rate=0.001,1e6", f"--engine={engine}", "--axis=seed=0:2")
    flags = (*SGD, *axes, f"--workdir={folder}")
    before = None
    for _ in range(2):
        assert here(monkeypatch, *flags) == 1
        out, errors = capsys.readouterr()
        assert errors.splitlines()[-1] == (
            "2 of 4 points failed; the same command tries them again"
        )
        assert "4 points: 2 done, 2 failed" in out
        assert "failed: optim.learning_rate=1000000.0,seed=0: loss is not finite at" in out
        good = {p: t for p, t in stamps(folder).items() if "=0.001" in p.parent.name}
        assert before in (None, good), "what is finished is not touched"
        before = good
    rows = {row["run"]: row for row in read(folder / "points.csv")}
    bad = rows["optim.learning_rate=1000000.0,seed=1"]
    assert bad["status"] == "failed"
    assert bad["problem"].startswith("loss is not finite at step ")
    best, last = read(folder / "summary.csv")
    assert (best["optim.learning_rate"], best["n"], best["failed"]) == ("0.001", "2", "0")
    assert (last["n"], last["failed"], last["final.grad_norm"]) == ("0", "2", "")


@pytest.mark.parametrize("engine", ["serial", "vectorised"])
def test_a_broken_folder_costs_its_point_alone(engine, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    flags = (*SHORT, "--axis=seed=0:4", f"--engine={engine}", f"--workdir={folder}")
    assert here(monkeypatch, *flags, "--shard=1/4") == 0
    (folder / "seed=1").write_text("mine")
    for name, file in (("seed=2", "config.json"), ("seed=3", "metrics.jsonl")):
        shutil.copytree(folder / "seed=0", folder / name)
        (folder / name / "DONE").unlink()
        config = json.loads((folder / name / "config.json").read_text())
        (folder / name / "config.json").write_text(
            json.dumps({**config, "seed": int(name[-1])})
        )
        (folder / name / file).write_text('{"torn\n{"step": 1}\n')
    (folder / "seed=0" / "DONE").unlink()
    capsys.readouterr()
    assert here(monkeypatch, *flags) == 1
    out, errors = capsys.readouterr()
    assert errors.splitlines()[-1].startswith("3 of 4 points failed")
    assert "4 points: 1 done, 3 failed" in out
    assert f"failed: seed=1: {folder}/seed=1 is a file and no folder: give" in out
    assert f"failed: seed=2: {folder}/seed=2 holds a config.json that is no JSON object" in out
    assert f"failed: seed=3: {folder}/seed=3/metrics.jsonl" in out
    assert (folder / "seed=1").read_text() == "mine"


def test_another_shard_knows_of_the_failures(monkeypatch, tmp_path, capsys):
    axes = ("--axis=optim.learning_rate=1e6,0.001", "--engine=serial")
    flags = (*SGD, *axes, f"--workdir={tmp_path / 's'}")
    assert here(monkeypatch, *flags, "--shard=1/2") == 1
    capsys.readouterr()
    assert here(monkeypatch, *flags, "--shard=2/2") == 0, "none of its own points failed"
    assert "2 points: 1 done, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "engine"), [(signal.SIGINT, "serial"), (signal.SIGTERM, "vectorised")]
)
def test_an_interrupted_sweep_goes_on_to_the_same_end(number, engine, tmp_path, monkeypatch):
    whole, folder = tmp_path / "whole", tmp_path / "s"
    steps = ("--config.train.steps=10000", "--config.train.checkpoint_every=2000")
    flags = (TINY, *steps, "--axis=optim.bits=4,8", "--axis=seed=0", f"--engine={engine}")
    process = start(*flags, f"--workdir={folder}")
    last = folder / "optim.bits=8,seed=0" / "metrics.jsonl"
    wait_for(lambda: last.exists() and last.read_text().count("\n") > 2, process)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out == ""
    ready = 1 if engine == "serial" else 0
    words = f"stopped with {ready} of 2 points done; the same command goes on there"
    assert errors.splitlines()[-1] == words
    assert not (last.parent / "DONE").exists()
    for place in (folder, whole):
        assert here(monkeypatch, *flags, f"--workdir={place}") == 0
    for name in ("optim.bits=4,seed=0", "optim.bits=8,seed=0"):
        assert_same_end(folder / name, whole / name)


def test_an_experiment_takes_an_engine(monkeypatch, tmp_path):
    seen = {}

    def run_experiment(module, folder, **options):
        seen.update(options)
        return []

    monkeypatch.setattr(commands, "run_experiment", run_experiment)
    flags = ("--experiment=halp_bits", "--size=tiny", f"--workdir={tmp_path}")
    assert here(monkeypatch, *flags, "--engine=serial") == 0
    assert seen["engine"] is commands.choose_engine(commands.EngineSettings("serial"))
    assert here(monkeypatch, *flags, "--chunk=2") == 0
    assert seen["engine"].keywords == {"chunk": 2}


def test_the_docstring_of_the_launcher_shows_sweeps(capsys, monkeypatch):
    assert here(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    for word in ("--sweep", "--axis=", "log(1e-4,1e-1,7)", "--shard", "--engine", "--metric"):
        assert word in text
    assert (ROOT / "configs" / "halp_regression.py").is_file()


def test_finished_points_of_other_axes_stay_in_the_summary(tmp_path, monkeypatch):
    config = "--config=configs/halp_regression.py:svrg,tiny"
    short = (
        "--config.train.steps=200",
        "--config.train.log_every=200",
        f"--workdir={tmp_path}",
    )
    assert here(monkeypatch, config, *short, "--axis=seed=1:3") == 0
    assert here(monkeypatch, config, *short, "--axis=seed=3:4") == 0
    with open(tmp_path / "points.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert sorted(row["run"] for row in found) == ["seed=1", "seed=2", "seed=3"]
    assert {row["status"] for row in found} == {"done"}
