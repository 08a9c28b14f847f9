"""Which engine the flags ask for."""

import pytest

from lpml.build import ConfigError
from lpml.sweep import engines
from lpml.sweep.engines import ENGINES, FLAGS, EngineSettings, choose_engine
from lpml.sweep.serial import run_serially


def test_vectorised_is_the_default(monkeypatch):
    calls = []
    monkeypatch.setattr(engines, "run_vectorised", lambda *a, **k: calls.append((a, k)))
    for settings in (EngineSettings(), EngineSettings(chunk=3), EngineSettings("vectorised")):
        choose_engine(settings)(["job"], should_stop=bool)
    assert calls == [((["job"],), dict(should_stop=bool, chunk=c)) for c in (None, 3, None)]


def test_serial_is_serial():
    assert choose_engine(EngineSettings("serial")) is run_serially


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(engine="serial", chunk=2), "--chunk belongs to the engine vectorised"),
        (dict(engine="vectorised", jobs=2), "does not go with --engine=vectorised"),
        (dict(engine="ray", jobs=2), "--jobs belongs to the engine processes"),
        (dict(jobs=2, address="x"), "--address belongs to the engine ray and does not go with"),
        (dict(chunk=2, jobs=2), "--jobs"),
        (dict(chunk=0), "--chunk=0 must be at least 1"),
        (dict(jobs=-1), "--jobs=-1 must be at least 1"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, words):
    with pytest.raises(ConfigError) as caught:
        choose_engine(EngineSettings(**settings))
    assert words in str(caught.value)


def test_every_flag_belongs_to_engines_that_exist():
    assert set(FLAGS) == set(EngineSettings._fields) - {"engine"}
    assert {name for names in FLAGS.values() for name in names} <= set(ENGINES)
