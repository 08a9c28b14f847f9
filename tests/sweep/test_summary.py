"""What a sweep came to: tables against the statistics module, files, pictures, TensorBoard."""

import csv
import json
import statistics

import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lpml.sweep.drawing import draw, label_of, x_key
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import Metric
from lpml.sweep.space import name_of
from lpml.sweep.summary import summarise

LOSS, ACCURACY = Metric("loss", False), Metric("test_accuracy", True)


@pytest.fixture
def sweep(tmp_path):
    """Makes a summary of points given as (settings, final metrics or None or a failure)."""

    def make(points, metric=LOSS, **optim):
        config = {"optim": {"name": "halp", **optim}}
        jobs, failures = [], {}
        for settings, final in points:
            name = name_of(settings)
            folder = tmp_path / name
            jobs.append(Job(name, config, str(folder), tuple(settings)))
            if isinstance(final, str):
                failures[name] = final
            if final is None:
                continue
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({"seed": 0}))
            if isinstance(final, dict):
                (folder / "DONE").write_text(json.dumps({"step": 9, **final}))
            else:
                (folder / "metrics.jsonl").write_text('{"step": 4, "loss": 0.125}\n')
        settings = [each for each, _ in points]
        return summarise(jobs, settings, metric, failures=failures)

    return make


VALUES = {4: (3.0, 5.0, 10.0), 8: (0.25, 0.5, 0.125)}


def full(**further):
    return [
        ({"optim.bits": bits, "seed": seed}, {"loss": value, **further})
        for bits, values in VALUES.items()
        for seed, value in enumerate(values)
    ]


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_settings_have_mean_and_spread_over_seeds_best_first(sweep):
    rows = sweep(full()).settings
    assert [row["optim.bits"] for row in rows] == [8, 4]
    for row in rows:
        values = VALUES[row["optim.bits"]]
        assert row["n"] == 3
        assert row["final.loss"] == pytest.approx(statistics.mean(values))
        assert row["final.loss.std"] == pytest.approx(statistics.stdev(values))
        assert (row["final.loss.min"], row["final.loss.max"]) == (min(values), max(values))
        assert (row["not_finite"], row["failed"], row["unfinished"]) == (0, 0, 0)


def test_of_an_accuracy_the_highest_is_the_best(sweep):
    points = [({"optim.bits": b}, {"test_accuracy": a}) for b, a in ((4, 0.3), (8, 0.9))]
    assert [row["optim.bits"] for row in sweep(points, ACCURACY).settings] == [8, 4]


def test_points_in_every_state_are_counted_and_poison_no_mean(sweep):
    points = [
        ({"optim.bits": 4, "seed": 0}, {"loss": 2.0}),
        ({"optim.bits": 4, "seed": 1}, {"loss": None}),  # how a DONE mark writes NaN
        ({"optim.bits": 4, "seed": 2}, "loss is not finite at step 3"),
        ({"optim.bits": 4, "seed": 3}, 7),  # begun
        ({"optim.bits": 4, "seed": 4}, None),  # not begun
        ({"optim.bits": 2, "seed": 0}, "no"),
    ]
    summary = sweep(points)
    best, last = summary.settings
    assert (best["optim.bits"], best["n"], best["final.loss"]) == (4, 1, 2.0)
    assert (best["not_finite"], best["failed"], best["unfinished"]) == (1, 1, 2)
    assert best["final.loss.std"] is None
    assert (last["optim.bits"], last["n"], last["final.loss"], last["failed"]) == (
        2,
        0,
        None,
        1,
    )
    states = [row["status"] for row in summary.points]
    assert states == ["done", "done", "failed", "unfinished", "unfinished", "failed"]
    assert "final.loss" not in summary.points[3], "an unfinished point has no final metric"
    head, first, second, _ = [*summary.table().split("\n")]
    columns = ["optim.bits", "n", "loss", "std", "min", "max"]
    assert head.split() == [*columns, "not_finite", "failed", "unfinished"]
    assert first.split() == ["4", "1", "2", "-", "2", "2", "1", "1", "2"]
    assert second.split() == ["2", "0", "-", "-", "-", "-", "0", "1", "0"]


def test_the_table_has_no_columns_of_zeros(sweep):
    assert sweep(full()).table().split("\n")[0].split()[-1] == "max"


def test_files_hold_the_tables(sweep, tmp_path):
    summary = sweep([*full(), ({"variant": "svrg", "seed": 0}, "it, broke")])
    summary.publish(str(tmp_path), "a title")
    settings = read(tmp_path / "summary.csv")
    assert [float(row["final.loss"]) for row in settings[:2]] == [
        pytest.approx(statistics.mean(VALUES[bits])) for bits in (8, 4)
    ]
    assert settings[2]["variant"] == "svrg"
    assert (settings[2]["final.loss"], settings[2]["failed"]) == ("", "1")
    points = read(tmp_path / "points.csv")
    assert [row["run"] for row in points] == [row["run"] for row in summary.points]
    assert [row["final.loss"] for row in points] == [
        *(str(value) for values in VALUES.values() for value in values),
        "",
    ]
    assert points[-1]["problem"] == "it, broke"
    assert points[0]["seed"] == "0"
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_tensorboard_has_the_picture_and_the_table_once(sweep, tmp_path):
    summary = sweep(full())
    for _ in range(2):
        summary.publish(str(tmp_path), "a title")
    assert len(list(tmp_path.glob("events.out.tfevents*"))) == 1
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("summary")
    assert image.encoded_image_string == (tmp_path / "summary.png").read_bytes()
    assert image.width > 900
    (text,) = events.Tensors("table")
    words = text.tensor_proto.string_val[0].decode()
    assert words.startswith("a title: loss at the end, lower is better\n\n| optim.bits | n |")
    assert "| 8 | 3 | 0.2917 |" in words


def test_without_a_value_there_is_no_picture(sweep, tmp_path):
    sweep([({"seed": 1}, "no"), ({"seed": 2}, None)]).publish(str(tmp_path), "t")
    assert not (tmp_path / "summary.png").exists()
    assert [row["n"] for row in read(tmp_path / "summary.csv")] == ["0"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ([{"optim.bits": 4, "lr": i} for i in range(3)] + [{"optim.bits": 8}], "optim.bits"),
        ([{"optim.bits": 4, "lr": i} for i in range(3)], "lr"),
        ([{"a": 1, "b": i} for i in range(3)] + [{"a": 2}], "b"),
        ([{"variant": "svrg"}, {"variant": "halp"}], None),
        ([{"rescale": True}, {"rescale": False}], None),
        ([{}], None),
    ],
)
def test_what_is_drawn_against(settings, wanted):
    keys = list(dict.fromkeys(key for each in settings for key in each))
    assert x_key(settings, keys) == wanted


def test_labels_are_as_short_as_they_may_be():
    row = {"variant": "svrg", "optim.learning_rate": 1 / 3, "model.l2": 0.5}
    assert label_of(row, list(row), "halp", digits=3) == "svrg, learning_rate=0.333, l2=0.5"
    both = {"data.seed": 1, "model.seed": 2}
    assert label_of(both, list(both), "halp") == "data.seed=1, model.seed=2"
    assert label_of({}, ["variant"], "halp") == "halp"
    assert label_of({"l2": None}, ["l2"], "halp") == "l2=none"


def picture(summary):
    keys = [key for key in summary.keys if key != "seed"]
    figure = draw(summary.settings, keys, summary.metric, title="t", base="halp")
    assert isinstance(figure, Figure)
    return figure, figure.axes[0]


def drawn(axes):
    """The lines with error bars: x, mean, lowest, highest by label."""
    found = {}
    for bars in axes.containers:
        x, mean = bars.lines[0].get_data()
        segments = bars.lines[2][0].get_segments()
        low, high = zip(*((s[0][1], s[1][1]) for s in segments))
        found[bars.get_label()] = [list(map(float, each)) for each in (x, mean, low, high)]
    return found


def test_bits_are_drawn_with_ranges_and_full_precision_across(sweep):
    reference = [({"variant": "svrg", "seed": s}, {"loss": v}) for s, v in ((0, 1.0), (1, 2.0))]
    figure, axes = picture(sweep(full() + reference))
    (line,) = drawn(axes).values()
    x, mean, low, high = line
    assert x == [4, 8]
    assert mean == pytest.approx([statistics.mean(VALUES[bits]) for bits in (4, 8)])
    assert low == pytest.approx([min(VALUES[bits]) for bits in (4, 8)])
    assert high == pytest.approx([max(VALUES[bits]) for bits in (4, 8)])
    (across,) = [line for line in axes.get_lines() if line.get_label() == "svrg"]
    assert set(across.get_ydata()) == {1.5}
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"halp", "svrg"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optim.bits", "loss")
    assert "lower is better" in axes.get_title()
    assert "2 to 3 runs with different seeds" in axes.get_title()
    assert axes.get_yscale() == "linear"


def test_a_setting_that_only_other_points_set_is_that_of_the_config(sweep):
    first = [({"seed": s}, {"loss": 0.5}) for s in (0, 1)]
    further = [({"optim.bits": 4, "optim.rounding": "nearest"}, {"loss": 1.0})]
    summary = sweep(first + further, bits=8, rounding=None)
    rows = [(row["optim.bits"], row["optim.rounding"], row["n"]) for row in summary.settings]
    assert rows == [(8, "stochastic", 2), (4, "nearest", 1)], "None means the function's own"
    _, axes = picture(summary)
    assert {k: line[0] for k, line in drawn(axes).items()} == {
        "rounding=stochastic": [8],
        "rounding=nearest": [4],
    }
    assert not [line for line in axes.get_lines() if line.get_linestyle() == "--"]


def test_the_usual_optimizer_and_its_variant_are_one_line(sweep):
    points = [({"optim.bits": 4}, {"loss": 1.0}), ({"optim.bits": 6}, {"loss": 0.5})]
    summary = sweep([*points, ({"variant": "halp"}, {"loss": 0.1})], bits=8)
    (line,) = drawn(picture(summary)[1]).values()
    assert line[0] == [4, 6, 8]


def test_settings_without_a_value_are_named_with_the_reason(sweep):
    lost = [
        ({"optim.bits": 2}, "loss is not finite at step 3"),
        ({"optim.bits": 3}, {"loss": None}),
        ({"optim.bits": 5}, None),
        ({"optim.bits": 6}, None),
    ]
    points = [*full(), *(({**each, "seed": 0}, end) for each, end in lost)]
    note = picture(sweep(points))[1].get_title().splitlines()[-1]
    assert note == (
        "without a value: bits=2 (failed); bits=3 (not finite); bits=5 (unfinished); and 1 more"
    )


def test_values_over_decades_and_rates_have_log_axes(sweep):
    points = [({"optim.learning_rate": 10.0**-i}, {"loss": 10.0**i}) for i in range(4)]
    _, axes = picture(sweep(points))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_negative_value_keeps_the_axis_linear(sweep):
    points = [({"optim.bits": b}, {"loss": v}) for b, v in ((4, -1.0), (8, 1e6))]
    assert picture(sweep(points))[1].get_yscale() == "linear"


def test_an_axis_paired_with_bits_makes_no_lines(sweep):
    points = [({"optim.bits": b, "optim.mu": b / 2}, {"loss": b}) for b in (4, 6, 8)]
    (line,) = drawn(picture(sweep(points))[1]).values()
    assert line[0] == [4, 6, 8]


def test_each_other_setting_is_a_line(sweep):
    points = [
        ({"variant": v, "optim.bits": b}, {"loss": b + len(v)})
        for v in ("halp", "lp_sgd")
        for b in (4, 8)
    ]
    lines = drawn(picture(sweep(points))[1])
    assert {label: line[1] for label, line in lines.items()} == {
        "halp": [8, 12],
        "lp_sgd": [10, 14],
    }


def test_many_rates_are_told_apart_by_colour_and_many_others_in_grey(sweep):
    rates = [1e-3 * 1.5**i for i in range(12)]
    points = [
        ({"optim.bits": b, "optim.learning_rate": rate}, {"loss": b + rate})
        for b in (4, 8)
        for rate in rates
    ]
    figure, axes = picture(sweep(points))
    assert len(axes.containers) == 12
    assert [other.get_ylabel() for other in figure.axes[1:]] == ["optim.learning_rate"]
    assert not figure.legends


def test_more_lines_than_a_legend_holds_are_grey(sweep):
    points = [
        ({"optim.bits": b, "variant": f"m{i:02}"}, {"loss": b + i})
        for b in (4, 8)
        for i in range(13)
    ]
    figure, axes = picture(sweep(points))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["3 others", *(f"m{i:02}" for i in range(10))]
    assert len(axes.containers) == 13


def test_without_a_number_each_setting_is_a_row(sweep):
    points = [({"variant": v}, {"loss": x}) for v, x in (("sgd", 3.0), ("halp", 1.0))]
    _, axes = picture(sweep(points))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["halp", "sgd"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best is on top"


@pytest.mark.parametrize("count", [1, 60])
def test_one_row_and_too_many_rows_are_drawn(count, sweep):
    figure, axes = picture(sweep([({"variant": f"m{i}"}, {"loss": i}) for i in range(count)]))
    assert len(axes.get_yticks()) == min(count, 40)
    assert figure.get_figheight() < 15
