"""`python -m lpml.runs`: options, exit codes, sentences."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lpml.runs import __main__ as command

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def call(sweep, capsys):
    """call(*options) -> (exit code, stdout, stderr) of a table of the sweep."""

    def call(*options, folder=sweep):
        code = command.main([*map(str, (folder, *options))])
        return (code, *capsys.readouterr())

    return call


def as_csv(out):
    return list(csv.DictReader(io.StringIO(out)))


def test_the_table_shows_every_run_in_natural_order(call):
    code, out, err = call()
    head, *lines = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split()[:4] == ["run", "status", "seed", "optim.name"]
    assert [line.split()[0] for line in lines] == [
        *(f"bits={bits},seed={seed}" for bits in (4, 16) for seed in (1, 2, 3)),
        "sgd",
    ]


def test_seeds_joined_with_the_spread_beside_the_mean(call):
    options = ("--where", "optim.name=halp", "--columns", "optim.bits,seed,final.loss")
    code, out, _ = call(*options, "--group", "seed", "--format", "csv")
    assert code == 0
    assert as_csv(out) == [
        {
            **{"optim.bits": bits, "seed": "[1, 2, 3]", "final.loss": mean},
            **{"final.loss.std": std, "n": n, "unfinished": unfinished},
        }
        for bits, mean, std, n, unfinished in [
            ("4", "0.5", str(0.125**0.5), "2", "1"),
            ("16", "0.125", "0.0625", "3", "0"),
        ]
    ]


def test_a_statistic_that_is_named_stands_alone(call):
    _, out, _ = call("--group", "seed", "--columns", "final.loss,final.loss.max")
    assert out.split("\n")[0].split() == ["final.loss", "final.loss.max", "n", "unfinished"]


def test_conditions_sort_and_limit(call):
    names = ("--columns", "run", "--format", "csv", "--sort", "-final.loss", "--limit", "2")
    _, out, _ = call("--where", "optim.bits>2", "--where", "status=done", *names)
    assert out == 'run\n"bits=4,seed=3"\n"bits=4,seed=1"\n'


def test_a_limit_does_not_hide_what_differs(call):
    _, out, _ = call("--sort", "final.loss", "--limit", "1", "--format", "csv")
    assert as_csv(out)[0]["optim.bits"] == "16"


def test_columns_and_groups_may_name_what_only_other_runs_have(call):
    sgd = ("--where", "optim.name=sgd", "--format", "json", "--columns", "optim.bits")
    assert json.loads(call(*sgd, "--sort", "optim.bits")[1]) == [{"optim.bits": None}]
    _, out, err = call(*sgd, "--group", "optim.bits")
    assert json.loads(out) == [{"optim.bits": None, "n": 1, "unfinished": 0}], err


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("a.csv", (), "run,status"),
        ("a.md", (), "| run |"),
        ("a.json", (), "[\n  {"),
        ("a.txt", (), "run  "),
        ("a.csv", ("--format", "json"), "[\n"),
    ],
)
def test_a_file_takes_its_format_from_its_ending(call, tmp_path, name, options, start):
    code, out, _ = call("--output", tmp_path / name, *options)
    assert (code, out) == (0, "")
    assert (tmp_path / name).read_text().startswith(start)


def test_several_folders_and_names_that_say_which(call, sweep):
    _, out, _ = call(sweep / "sgd", "--format", "csv", folder=sweep / "bits=4,seed=1")
    wanted = [str(sweep / "bits=4,seed=1"), str(sweep / "sgd")]
    assert [row["run"] for row in as_csv(out)] == wanted


def test_what_a_terminal_cannot_show_is_escaped(sweep, make):
    make("gr\udcffn", {"seed": 9})  # a name that is no UTF-8
    done = subprocess.run(
        [sys.executable, "-m", "lpml.runs", str(sweep)], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert rb"gr\udcffn" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--where", "optim.bits=5"], 1, "none of the 7 runs matches optim.bits=5"),
        (["--where", "optim.bit=5"], 2, "did you mean 'optim.bits'?"),
        (["--where", "nonsense"], 2, "write it like 'optim.bits<=8'"),
        (["--columns", "optim.bit"], 2, "did you mean 'optim.bits'?"),
        (["--columns", ","], 2, "names no column"),
        (["--group", "sed"], 2, "did you mean 'seed'?"),
        (["--sort", "-los"], 2, "no run has the column 'los'"),
        (["--sort"], 2, "--sort"),
        (["--format", "xml"], 2, "xml"),
        (["--limit", "0"], 2, "no whole number of at least 1"),
        (["--limit", "x"], 2, "no whole number of at least 1"),
        (["--colums", "a"], 2, "--colums"),
        (["--output", "nowhere/at/all.csv"], 1, "nowhere/at/all.csv cannot be written"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_an_exit_code(call, options, code, words):
    found, out, err = call(*options)
    assert (found, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1


def test_folders_without_runs_are_one_sentence(call, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = call(folder=tmp_path / "empty")
    assert (code, err.count("\n")) == (2, 1)
    assert "there are no runs in" in err
    code, _, err = call(folder=tmp_path / "nowhere")
    assert (code, err) == (2, f"{tmp_path / 'nowhere'} does not exist; give a folder of runs\n")


def test_debug_shows_the_traceback_and_nothing_else_does(call, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(command, "render", broken)
    code, _, err = call()
    assert code == 1
    assert err == "RuntimeError: first (run again with --debug for the traceback)\n"
    assert "Traceback" in call("--debug")[2]


@pytest.mark.parametrize(("length", "seen"), [(10, 0), (10**6, 0), (10**6, 10)])
def test_a_reader_that_has_seen_enough_ends_it_quietly(make, tmp_path, length, seen):
    make("one", {"seed": 1, "long": "x" * length})
    process = subprocess.Popen(
        [sys.executable, "-m", "lpml.runs", str(tmp_path), "--columns", "long"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(seen)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_a_table_needs_none_of_the_heavy_packages(sweep):
    code = (
        "import sys; from lpml.runs.__main__ import main; import lpml.runs; "
        "assert main(sys.argv[1:]) == 0; heavy = {'jax', 'numpy', 'matplotlib', 'tensorboard', "
        "'ml_collections', 'absl'} & set(sys.modules); assert not heavy, heavy"
    )
    words = [sys.executable, "-c", code, str(sweep), "--group", "seed"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("optim.name")


def test_an_ending_that_names_no_format_is_refused(call, tmp_path):
    code, _, err = call("--output", tmp_path / "a.xlsx")
    assert code == 2
    assert "choose from .csv, .md, .json, .txt" in err
    assert not (tmp_path / "a.xlsx").exists()
