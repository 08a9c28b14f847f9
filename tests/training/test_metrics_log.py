import json
import math
import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpml.training import metrics_log
from lpml.training.metrics_log import MetricsLog, read, read_last


def strict(line):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(line, parse_constant=refuse)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_numbers_come_back_exactly_and_lines_are_strict_json(path):
    values = {"a": 0.1, "b": np.float32(0.1), "c": jnp.int32(7), "d": True, "e": 1e-300}
    with MetricsLog(path) as log:
        log.append(3, values)
        log.append(4, {"nan": math.nan, "inf": jnp.inf, "none": None})
    first, second = (strict(line) for line in path.read_text().splitlines())
    assert first == {
        "step": 3,
        "a": 0.1,
        "b": float(np.float32(0.1)),
        "c": 7,
        "d": True,
        "e": 1e-300,
    }
    assert second == {"step": 4, "nan": None, "inf": None, "none": None}


def test_a_line_is_on_disk_when_append_returns(path):
    code = """
        import os, signal, sys
        from lpml.training.metrics_log import MetricsLog
        log = MetricsLog(sys.argv[1])
        for step in range(20):
            log.append(step, {"loss": step / 3})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)])
    assert killed.returncode == -signal.SIGKILL
    assert read(path) == [{"step": s, "loss": s / 3} for s in range(20)]


def test_rewind_keeps_the_steps_up_to_the_given_one_and_goes_on(path):
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.append(step, {"loss": step})
        log.rewind(2)
        assert [row["step"] for row in read(path)] == [1, 2]
        log.append(3, {"loss": 30})
    assert [strict(line)["loss"] for line in path.read_text().splitlines()] == [1, 2, 30]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("torn", ['{"st', '{"step": 2, "loss"', "\x00\x00"])
def test_a_torn_last_line_is_ignored_and_dropped(path, torn):
    path.write_text('{"step": 1, "loss": 1}\n' + torn)
    assert read(path) == [{"step": 1, "loss": 1}]
    with MetricsLog(path) as log:
        log.append(2, {"loss": 2})
    assert [strict(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("garbage", ["{", "[]", '{"loss": 1}', '{"step": 1.5}', ""])
def test_garbage_in_the_middle_is_named(path, garbage):
    path.write_text(f'{{"step": 1}}\n{garbage}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read(path)


def test_the_last_value_of_a_step_counts_and_lines_of_a_step_are_joined(path):
    with MetricsLog(path) as log:
        for step, values in [
            (1, {"a": 1}),
            (2, {"a": 2}),
            (1, {"a": 10, "b": 3}),
            (2, {"b": 4}),
        ]:
            log.append(step, values)
    assert read(path) == [{"step": 1, "a": 10, "b": 3}, {"step": 2, "a": 2, "b": 4}]


def test_what_is_no_number_is_refused_and_nothing_is_written(path):
    with MetricsLog(path) as log:
        with pytest.raises(ValueError, match="step"):
            log.append(1, {"step": 2})
        with pytest.raises((TypeError, ValueError)):
            log.append(1, {"a": 1.0, "b": "text"})
    assert path.read_text() == ""


LINE = st.dictionaries(st.text(max_size=3).filter(lambda k: k != "step"), st.floats(0, 1))


@given(
    st.lists(st.tuples(st.integers(0, 2), LINE), max_size=8),
    st.sampled_from(["", "{", '{"step": 99, "a', "\x00"]),
    st.integers(1, 40),
)
def test_the_last_row_is_that_of_the_whole_file(tmp_path_factory, lines, torn, tail):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    steps = np.cumsum([stride for stride, _ in lines]).tolist()
    rows = [{"step": step, **values} for step, (_, values) in zip(steps, lines)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
    whole = read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_log, "_TAIL_BYTES", tail)
        assert read_last(path) == (whole[-1] if whole else None)


def test_the_last_row_does_not_need_the_lines_before(path):
    lines = ["garbage", *(json.dumps({"step": step, "a": 1.0}) for step in range(10_000))]
    path.write_text("\n".join(lines) + "\n")
    assert read_last(path) == {"step": 9999, "a": 1.0}


def test_garbage_near_the_end_is_an_error_that_names_the_line(path):
    lines = [json.dumps({"step": step}) for step in range(10_000)]
    lines[9998] = "garbage"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="line 9999: "):
        read_last(path)
