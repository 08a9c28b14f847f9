"""Which folders are runs, and their order."""

import os

import pytest

from lpml.build import ConfigError
from lpml.runs import find


def names(root):
    return [os.path.relpath(path, root) for path in find(root)]


def test_runs_are_found_at_any_depth_in_natural_order(make, tmp_path):
    for name in ("bits=16", "bits=4", "a/b/bits=10", "a/b/bits=9", "bits=4.5"):
        make(name)
    wanted = ["a/b/bits=9", "a/b/bits=10", "bits=4", "bits=4.5", "bits=16"]
    assert names(tmp_path / "runs") == wanted
    assert find(str(tmp_path))[0] == str(tmp_path / "runs/a/b/bits=9")


def test_a_run_is_its_own_root(make):
    folder = make("one")
    assert find(folder) == [str(folder)]


def test_a_run_is_not_searched_and_hidden_folders_are_not_followed(make, tmp_path):
    make("one")
    make("one/checkpoints/inner")
    make(".hidden/two")
    assert names(tmp_path / "runs") == ["one"]


@pytest.mark.parametrize("content", [(), ("config.json",), ("DONE", "metrics.jsonl")])
def test_a_folder_without_config_or_without_marks_of_a_run_is_none(tmp_path, content):
    (tmp_path / "folder").mkdir()
    for name in content:
        (tmp_path / "folder" / name).write_text("{}")
    assert find(tmp_path) == []


@pytest.mark.parametrize("mark", [".lock", "metrics.jsonl", "environment.json", "DONE"])
def test_any_file_of_a_run_beside_the_config_makes_a_run(tmp_path, mark):
    for name in ("config.json", mark):
        (tmp_path / name).write_text("{}")
    assert find(tmp_path) == [str(tmp_path)]


def test_a_stranger_s_config_does_not_hide_runs_below(make, tmp_path):
    make("one")
    (tmp_path / "runs" / "config.json").write_text("{}")
    assert names(tmp_path / "runs") == ["one"]


def test_links_are_followed_once(make, tmp_path):
    make("one")
    away = tmp_path / "away" / "two"
    make("two").rename(away.parent.mkdir() or away)
    (tmp_path / "runs" / "link").symlink_to(away.parent)
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs" / "one")
    (tmp_path / "away" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "broken").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "runs") == ["again", "link/two"]


@pytest.mark.parametrize(("name", "words"), [("nowhere", "does not exist"), ("file", "a file")])
def test_what_is_no_folder_is_refused(tmp_path, name, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=words):
        find(tmp_path / name)
