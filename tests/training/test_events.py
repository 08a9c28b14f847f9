import io
import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lpml.training.events import EventWriter

ALL = {"scalars": 0, "images": 0, "tensors": 0}


def accumulate(folder):
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def points(folder, tag):
    return [(e.step, e.value) for e in accumulate(folder).Scalars(tag)]


def rows_of_the_hparams_tab(logdir):
    """What TensorBoard's own server code answers to the HPARAMS tab."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(logdir))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(logdir))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[0, 1, 2, 3], start_index=0, slice_size=100
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run()
    return {g.sessions[0].name: g for g in groups.session_groups}


def png(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_every_scalar_is_read_back(tmp_path):
    with EventWriter(tmp_path) as writer:
        for step in range(500):
            writer.scalars(step, {"loss": 1 / (step + 1), "bits": 4})
    assert points(tmp_path, "loss") == [
        (s, pytest.approx(1 / (s + 1), rel=1e-6)) for s in range(500)
    ]
    assert points(tmp_path, "bits") == [(s, 4.0) for s in range(500)]


def test_nan_and_infinity_are_kept(tmp_path):
    with EventWriter(tmp_path) as writer:
        writer.scalars(3, {"loss": math.nan})
        writer.scalars(4, {"loss": -math.inf})
    (first, nan), (second, infinite) = points(tmp_path, "loss")
    assert (first, second) == (3, 4)
    assert math.isnan(nan)
    assert infinite == -math.inf


def test_text_and_image_are_read_back(tmp_path):
    (tmp_path / "figure.png").write_bytes(png(2, 9))
    with EventWriter(tmp_path / "run") as writer:
        writer.text("config", "# a *config*")
        writer.image("bytes", png(7, 5), step=2)
        writer.image("file", tmp_path / "figure.png")
    events = accumulate(tmp_path / "run")
    (text,) = events.Tensors("config")
    assert text.tensor_proto.string_val[0] == b"# a *config*"
    (image,) = events.Images("bytes")
    assert (image.step, image.width, image.height) == (2, 7, 5)
    assert image.encoded_image_string == png(7, 5)
    assert events.Images("file")[0].height == 9


def test_an_image_that_is_no_png_is_refused(tmp_path):
    with EventWriter(tmp_path) as writer, pytest.raises(ValueError, match="PNG"):
        writer.image("figure", b"<svg/>")


def test_the_hparams_tab_shows_one_row_per_folder_with_its_metrics(tmp_path):
    shared = {"seed": 0, "optim.lr": 0.5, "fast": True}
    for name, extra in {"a": {}, "b": {}, "c": {"optim.name": "halp"}}.items():
        with EventWriter(tmp_path / name) as writer:
            writer.hparams({**shared, **extra})
            for step in (1, 2):
                writer.scalars(step, {"loss": step * 10 + ord(name)})
            if name != "c":
                writer.end("success" if name == "a" else "failure")
    rows = rows_of_the_hparams_tab(tmp_path)
    assert set(rows) == {"a", "b", "c"}
    for name, row in rows.items():
        (metric,) = row.metric_values
        assert (metric.name.tag, metric.value) == ("loss", 20 + ord(name))
        assert row.hparams["optim.lr"].number_value == 0.5
        assert row.hparams["fast"].bool_value is True
    assert rows["c"].hparams["optim.name"].string_value == "halp"
    status = {name: row.sessions[0].status for name, row in rows.items()}
    success, failure = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE
    assert (status["a"], status["b"]) == (success, failure)
    assert status["c"] not in (success, failure)


def test_hparams_and_end_refuse_what_tensorboard_cannot_show(tmp_path):
    with EventWriter(tmp_path) as writer:
        with pytest.raises(TypeError, match="shape"):
            writer.hparams({"shape": (1, 2)})
        with pytest.raises(ValueError, match="success"):
            writer.end("done")


def test_after_a_restart_readers_see_each_step_once(tmp_path):
    with EventWriter(tmp_path) as writer:
        writer.text("config", "kept")
        for step in (1, 2, 3, 4):
            writer.scalars(step, {"loss": step})
    with EventWriter(tmp_path) as writer:
        writer.restart(2)
        for step in (3, 4, 5):
            writer.scalars(step, {"loss": 10 * step})
    assert points(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]
    assert accumulate(tmp_path).Tensors("config")


def test_a_killed_process_loses_no_line(tmp_path):
    code = """
        import os, signal, sys
        from lpml.training.events import EventWriter
        writer = EventWriter(sys.argv[1])
        for step in range(30):
            writer.scalars(step, {"loss": step})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert points(tmp_path, "loss") == [(s, float(s)) for s in range(30)]


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path):
    package = tmp_path / "site" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('TensorFlow was imported')")
    code = """
        import sys
        import lpml.training.events as events
        assert "tensorboard" not in sys.modules, "tensorboard must be imported late"
        with events.EventWriter(sys.argv[1]) as writer:
            writer.scalars(0, {"loss": 1.0})
            writer.text("config", "text")
            writer.hparams({"lr": 0.1})
            writer.end("success")
        assert "tensorflow" not in sys.modules
    """
    path = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        EventWriter(tmp_path / "file" / "run")
