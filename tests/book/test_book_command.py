"""The command of the book, as a user gives it and stops it."""

import re
import signal

from launching import run, start, wait_for


def test_a_signal_ends_it_with_pages_of_what_is_finished(tmp_path):
    flags = ("--book", "--size=tiny", f"--workdir={tmp_path / 'runs'}", f"--docs={tmp_path}")
    process = start(*flags)
    try:
        wait_for(lambda: list(tmp_path.glob("runs/*/verdict.json")), process, timeout=100)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    finished = {path.parent.name for path in tmp_path.glob("runs/*/verdict.json")}
    shown, missing = re.search(r"(\d+) experiments shown; .*tiny: (.*)", out).groups()
    assert int(shown) == len(finished)
    names = {f"{name}-tiny" for name in missing.split(", ")}
    assert names
    assert not names & finished
    page = (tmp_path / "REPRODUCTION.md").read_text()
    assert all(f"### {name}" in page for name in finished)
    again = run(*flags, "--minutes=0")
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{shown} experiments shown" in again.stdout
