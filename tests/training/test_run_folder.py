import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from lpml.training.run_folder import FolderConflict, RunFolder

CONFIG = {
    "seed": 0,
    "optim": {"name": "halp", "bits": 8},
    "sizes": (3, 4),
    "data": {"dir": "a"},
}


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "deep" / "run") as run:
        yield run


def changed(**values):
    config = json.loads(json.dumps(CONFIG))
    for name, value in values.items():
        *parents, last = name.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def test_a_claim_is_written_and_taken_again(folder):
    folder.claim(CONFIG)
    assert json.loads(folder.config_file.read_text()) == {**CONFIG, "sizes": [3, 4]}
    before = folder.config_file.read_bytes()
    folder.claim(CONFIG)
    assert folder.config_file.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (changed(optim__bits=4), "optim.bits is 8 there and 4 here"),
        (changed(optim__bits=8.0), "optim.bits is 8 there and 8.0 here"),
        (changed(seed=False), "seed is 0 there and false here"),
        (changed(optim__mu=1.5), "optim.mu is absent there and 1.5 here"),
        (changed(sizes=[3]), r"sizes is \[3, 4\] there and \[3\] here"),
    ],
)
def test_another_config_is_refused_naming_key_values_folder_and_remedy(folder, other, words):
    folder.claim(CONFIG)
    with pytest.raises(FolderConflict, match=words) as caught:
        folder.claim(other)
    message = str(caught.value)
    assert str(folder.path) in message
    assert "--workdir" in message
    assert "\n" not in message


def test_an_option_that_came_later_and_is_none_changes_no_config(folder):
    folder.claim(CONFIG)
    folder.claim(changed(optim__added=None))
    with pytest.raises(FolderConflict, match=r"optim\.added is absent there and 0 here"):
        folder.claim(changed(optim__added=0))


def test_only_the_first_few_differences_are_listed(folder):
    folder.claim({f"k{i}": 0 for i in range(9)})
    with pytest.raises(FolderConflict, match="k2 is 0 there and 1 here; and 6 more"):
        folder.claim({f"k{i}": 1 for i in range(9)})


def test_ignored_names_may_differ_with_all_below_them(folder):
    folder.claim(CONFIG)
    other = changed(data__dir="b", data__extra=1)
    folder.claim(other, ignore=("data",))
    with pytest.raises(FolderConflict, match=r"data\.extra"):
        folder.claim(other, ignore=("data.dir", "dat", "data.ext"))


def test_a_folder_of_something_else_is_refused_but_hidden_files_are_not(folder):
    (folder.path / ".hidden").write_text("")
    (folder.path / "thesis.tex").write_text("")
    with pytest.raises(FolderConflict, match=r"thesis\.tex"):
        folder.claim(CONFIG)
    assert not folder.config_file.exists()
    (folder.path / "thesis.tex").unlink()
    folder.claim(CONFIG)


@pytest.mark.parametrize("content", [b"", b'{"seed"', b"[1]", b"\xff\xfe"])
def test_a_config_that_cannot_be_read_is_refused(folder, content):
    folder.config_file.write_bytes(content)
    with pytest.raises(FolderConflict, match=r"config\.json"):
        folder.claim(CONFIG)
    assert folder.config_file.read_bytes() == content


def test_done_holds_the_summary_in_strict_json(folder):
    assert folder.finished() is None
    folder.finish({"loss": 0.25, "step": 7, "bad": float("nan")})
    assert folder.finished() == {"loss": 0.25, "step": 7, "bad": None}
    assert "NaN" not in folder.done_file.read_text()
    folder.done_file.write_text("{")
    with pytest.raises(FolderConflict, match="DONE"):
        folder.finished()


def test_a_failed_write_leaves_the_old_file(folder, monkeypatch):
    folder.finish({"loss": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.finish({"loss": 2})
    assert folder.finished() == {"loss": 1}


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        RunFolder(tmp_path / "file" / "run")


def test_another_process_is_locked_out_until_the_first_is_gone(tmp_path):
    code = """
        import sys, time
        from lpml.training.run_folder import RunFolder
        run = RunFolder(sys.argv[1])
        print("locked", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(FolderConflict, match=f"in use by process {other.pid}"):
                RunFolder(tmp_path)
        finally:
            other.send_signal(signal.SIGKILL)
    with RunFolder(tmp_path) as run:
        run.claim(CONFIG)
        with pytest.raises(FolderConflict, match=f"in use by process {os.getpid()}"):
            RunFolder(tmp_path)
    RunFolder(tmp_path).close()
