"""The launcher as a user meets it: commands, run folders, experiments, the progress line."""

import csv
import json
import os
import pty
import re
import shutil
import subprocess

import pytest
from launching import ROOT, TINY, here, run, start
from PIL import Image

from lpml import commands

BITS6 = (TINY, "--config.optim.bits=6")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run: its folder and its process."""
    folder = tmp_path_factory.mktemp("launch") / "new" / "b6"
    done = run(*BITS6, f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done


def contents(folder):
    """Every file that is not hidden, with its content and its time."""
    files = [p for p in folder.rglob("[!.]*") if p.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_list_names_everything_with_a_claim_of_one_line():
    done = run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    for known in (commands.configs(), commands.experiments()):
        for name, claim in known.items():
            assert re.search(rf"^  {name} +{re.escape(claim)}$", done.stdout, re.MULTILINE)
            assert len(claim) > 20
            assert claim.endswith(".")
    files = {path.stem for path in (ROOT / "configs").glob("halp_*.py")} - {"halp_methods"}
    assert files <= set(commands.configs())


def test_without_arguments_the_help_and_the_code_of_wrong_usage(monkeypatch, capsys):
    assert here(monkeypatch) == 2
    text, errors = capsys.readouterr()
    assert "python launch.py --config=configs/halp_regression.py" in text
    assert errors == ""


@pytest.mark.parametrize(
    ("flag", "takers"),
    [
        ("--minutes=3", "--book"),
        ("--size=tiny", "--book or --experiment"),
        ("--trials=3", "--tune"),
        ("--dry_run", "--config or --sweep"),
    ],
)
def test_a_flag_without_its_command_is_named(flag, takers, monkeypatch, capsys):
    assert here(monkeypatch, flag) == 2
    text, errors = capsys.readouterr()
    name = flag.partition("=")[0]
    assert errors == f"{name} alone does nothing: it goes with {takers}; add one\n"
    assert text == ""


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_teaches(flag, monkeypatch, capsys):
    assert here(monkeypatch, flag) == 0
    text = capsys.readouterr().out
    for word in (
        *("--config", "--config.optim.bits=6", ":tiny", "--dry_run", "--experiment=", "--list"),
        *("--workdir", "--size", "book", "tensorboard --logdir", "Exit codes", "resumes"),
    ):
        assert word in text
    for command in re.findall(r"python launch.py --config=(\S+?\.py)", text):
        assert (ROOT / command).is_file()


def test_dry_run_shows_and_makes_nothing(monkeypatch, capsys, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert here(monkeypatch, *BITS6, "--dry_run", f"--workdir={tmp_path / 'x'}") == 0
    text, errors = capsys.readouterr()
    config, end = json.JSONDecoder().raw_decode(text)
    assert config["optim"]["bits"] == 6
    rest = text[end:]
    assert "Dense_0" in rest
    assert "Total Parameters: 10" in rest
    assert "batch['x']: float64[1, 10]" in rest
    assert "batch['y']: float64[1]" in rest
    assert rest.rstrip().splitlines()[-1].startswith("10000 steps")
    assert errors == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_is_a_folder(finished):
    folder, done = finished
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        *(
            "config.json",
            "metrics.jsonl",
            "environment.json",
            "time.json",
            "checkpoints",
            "DONE",
        ),
    }
    config = config_of(folder)
    assert config["optim"]["bits"] == 6
    assert config["train"]["steps"] == 10000
    record = json.loads((folder / "environment.json").read_text())
    assert record["packages"]["jax"]
    assert record["devices"]
    assert "git" in record
    assert "--config.optim.bits=6" in record["command"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(0, 10001, 200))
    assert all({"loss", "grad_norm"} <= row.keys() for row in rows)
    assert json.loads((folder / "DONE").read_text()) == rows[-1]
    assert (folder / "checkpoints" / "10000").is_dir()
    assert f"{rows[-1]['grad_norm']:.6g}" in done.stdout
    assert str(folder) in done.stdout


def test_a_short_run_is_quiet_where_no_terminal_is(finished):
    assert finished[1].stderr == ""


def test_a_finished_run_says_so_and_does_nothing(finished):
    folder, first = finished
    before = contents(folder)
    again = run(*BITS6, f"--workdir={folder}")
    assert again.returncode == 0
    assert again.stderr.splitlines() == [f"{folder} is finished already; nothing to do"]
    assert again.stdout == first.stdout
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((TINY,), "halp_regression,tiny"),
        (("--config=configs/halp_mlp.py:lp_sgd,tiny",), "halp_mlp,lp_sgd,tiny"),
        ((*BITS6, "--config.seed=3"), "halp_regression,tiny,optim.bits=6,seed=3"),
        ((TINY, "--config.data.dir=/x/y"), "halp_regression,tiny"),
        (
            (TINY, """--config.optim={"name": "sgd",\n"learning_rate": 0.005}"""),
            "halp_regression,tiny,optim=learning_rate:0.005;name:sgd",
        ),
    ],
)
def test_default_folders_are_named_by_what_was_asked(
    arguments, name, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(commands, "RUNS", str(tmp_path))
    assert here(monkeypatch, *arguments, "--config.train.steps=20") == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{name},train.steps=20"
    assert str(folder) in capsys.readouterr().out


def test_an_object_field_takes_a_word(monkeypatch, tmp_path):
    arguments = ("--config.optim.mu=auto", "--config.train.steps=400")
    assert here(monkeypatch, TINY, *arguments, f"--workdir={tmp_path / 'r'}") == 0
    assert config_of(tmp_path / "r")["optim"]["mu"] == "auto"


def test_a_whole_sub_tree_can_be_given(monkeypatch, tmp_path):
    tree = {"name": "svrg", "learning_rate": 0.005, "inner_steps": 200}
    arguments = (f"--config.optim={json.dumps(tree)}", "--config.train.steps=400")
    assert here(monkeypatch, TINY, *arguments, f"--workdir={tmp_path / 'r'}") == 0
    assert config_of(tmp_path / "r")["optim"] == tree


def test_other_spellings_of_flags_are_read(monkeypatch, capsys):
    file = "configs/halp_regression.py:tiny"
    spelled = ("--config", file, "-config.seed=5", "--config.optim.bits", "6", "--dry_run")
    assert here(monkeypatch, *spelled) == 0
    config, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    assert (config["seed"], config["optim"]["bits"]) == (5, 6)


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """An experiment of tiny runs: its folder and its process."""
    folder = tmp_path_factory.mktemp("figure") / "halp_logistic"
    done = run("--experiment=halp_logistic", "--size=tiny", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_an_experiment_ends_with_picture_table_and_verdicts(figure):
    folder, done = figure
    with Image.open(folder / "figure.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert len(set(picture.convert("RGB").get_flattened_data())) > 10
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = {"run", "optim.name", "optim.bits", "seed", "finished", "loss", "grad_norm"}
    assert wanted <= rows[0].keys()
    assert {row["run"] for row in rows} == {p.parent.name for p in folder.glob("*/DONE")}
    assert len({row["seed"] for row in rows}) >= 3
    for verdict in json.loads((folder / "verdict.json").read_text()):
        assert verdict["verdict"] in ("holds", "fails", "undecided")
        assert len(verdict["seeds"]) >= 3
        assert all(isinstance(seed, int) for seed in verdict["seeds"])
        for word in ("claim", "measured", "expected"):
            assert verdict[word] in done.stdout
        assert f"{verdict['verdict'].upper():>9}  {verdict['claim']}" in done.stdout


def test_an_experiment_again_skips_its_finished_runs(figure, monkeypatch, capsys):
    folder, first = figure
    before = {path: stat for path, stat in contents(folder).items() if path.parent != folder}
    flags = ("--experiment=halp_logistic", "--size=tiny", f"--workdir={folder}")
    assert here(monkeypatch, *flags) == 0
    assert capsys.readouterr().out == first.stdout
    after = {path: stat for path, stat in contents(folder).items() if path.parent != folder}
    assert after == before


def test_the_book_is_written_from_finished_experiments(figure, tmp_path):
    for name in ("lpml", "experiments", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "launch.py", tmp_path)
    done = run("--book", "--minutes=0", f"--workdir={figure[0].parent}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "docs" / "REPRODUCTION.md").read_text()
    picture = (tmp_path / "docs" / "pictures" / "halp_logistic.png").read_bytes()
    assert picture == (figure[0] / "figure.png").read_bytes()
    assert "pictures/halp_logistic.png" in page
    for verdict in json.loads((figure[0] / "verdict.json").read_text()):
        assert f"**{verdict['verdict']}** | {verdict['claim']}" in page


def test_on_a_terminal_a_line_shows_how_far_it_is(tmp_path):
    master, slave = pty.openpty()
    process = start(
        *(TINY, "--config.train.steps=50000", "--config.train.checkpoint_every=1000"),
        f"--workdir={tmp_path / 'r'}",
        stderr=slave,
        stdout=subprocess.DEVNULL,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux's way to say that the other side is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(timeout=60) == 0
    drawn = [line.strip() for line in shown.decode().split("\r") if line.strip()]
    pattern = r"step \d+/50000  \d+%  \d+ steps/s  \d+:\d\d left  grad_norm \S+"
    assert len([line for line in drawn if re.fullmatch(pattern, line)]) >= 3, drawn
    assert shown.endswith(b"\r"), "the line is wiped away at the end"
    assert b"\n" not in shown


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_anchor_under_batch_statistics_is_warned_of(norm, monkeypatch, tmp_path, caplog):
    arguments = (
        "--config=configs/halp_networks.py:resnet20,tiny",
        f"--config.model.norm={norm}",
        "--config.train.steps=1",
        f"--workdir={tmp_path / 'run'}",
    )
    assert here(monkeypatch, *arguments) == 0
    warned = [r.getMessage() for r in caplog.records if "batch statistics" in r.getMessage()]
    assert len(warned) == (norm == "batch")
