"""The command that shows numbers as formats hold them."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import posit_oracle
import pytest

from lpml import formats
from lpml.formats.__main__ import main
from lpml.formats.pictures import decimal_accuracy, gaps
from lpml.formats.show import fields, show, table

FIELDS = [
    ("posit16", 0x4C91, "0 10 01 10010010001"),
    ("posit16", -0x4A00, "1 10 01 01000000000"),
    ("posit8es0", 0x7F, "0 1111111"),
    ("posit8", 0x01, "0 0000001"),
    ("posit8", 0x03, "0 000001 1"),
    ("posit8", 0, "0 0000000"),
    ("posit8", -128, "1 0000000"),
    ("e4m3", 0x9B, "1 0011 011"),
    ("e6m0", 0x41, "1 000001"),
    ("int8", -1, "11111111"),
]


@pytest.mark.parametrize(("name", "code", "wanted"), FIELDS)
def test_a_codes_fields_are_those_of_the_formats_definition(name, code, wanted):
    found = fields(formats.by_name(name), code)
    assert " ".join(bits for _, bits in found) == wanted


@pytest.mark.parametrize("es", [0, 2])
def test_the_fields_of_every_posit_make_its_value(es):
    for code in range(-127, 128):
        if code == 0:
            continue
        named = dict(fields(formats.Posit(8, es), code))
        regime = named["regime"]
        run = len(regime) - len(regime.lstrip(regime[0]))
        scale = run - 1 if regime[0] == "1" else -run
        exponent = int(named.get("exponent", "").ljust(es, "0") or "0", 2)
        digits = named.get("fraction", "")
        value = (1 + Fraction(int(digits or "0", 2), 2 ** len(digits))) * Fraction(2) ** (
            scale * 2**es + exponent
        )
        sign = -1 if named["sign"] == "1" else 1
        assert sign * value == posit_oracle.decode(code, 8, es)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        # ties and their neighbours, closer than float64 tells them apart
        ("bfloat16", "1.00390625", 1.0),
        ("bfloat16", f"1.00390625{'0' * 30}1", 1.0078125),
        ("e4m3", "-1/3", -0.34375),
        ("e4m3", "1e400", 240.0),
        ("posit16", "1e-400", 2.0**-56),
        ("posit32", "3.14159265358979", 3.1415926516056061),
        ("int8", "1/2", 0.0),
    ],
)
def test_the_number_as_written_is_rounded_once(name, text, value):
    assert show(formats.by_name(name), text).value == value


@pytest.mark.parametrize("name", ["posit8", "e4m3fn", "e5m2", "fixed8", "e2m1", "posit16"])
def test_neighbours_and_errors_are_those_of_the_list_of_values(name):
    fmt = formats.by_name(name)
    values = fmt.values()
    middle, last = len(values) // 2, len(values) - 1
    for at in (0, 1, middle - 1, middle, middle + 1, last):
        found = show(fmt, str(Fraction(values[at])))
        assert found.value == values[at]
        assert found.absolute == 0
        assert found.below == (values[at - 1] if at else None)
        assert found.above == (values[at + 1] if at + 1 < len(values) else None)
    found = show(formats.E4M3, "1.03")
    np.testing.assert_allclose(found.absolute, -0.03)
    np.testing.assert_allclose(found.relative, -0.03 / 1.03)
    np.testing.assert_allclose(found.ulp, -0.03 / 0.125)


def test_a_table_has_every_code():
    listed = table(formats.by_name("posit8"))
    assert [code for code, _ in listed] == list(range(256))
    finite = [value for _, value in listed if np.isfinite(value)]
    np.testing.assert_array_equal(np.sort(finite), formats.by_name("posit8").values())
    three = formats.Table([-1.0, 0.0, 2.0])
    assert table(three) == [(0, -1.0), (1, 0.0), (2, 2.0)]


def test_gaps_and_accuracy_are_those_of_the_values():
    below, above = gaps(formats.E4M3, np.array([0.001, 1.01, 100.0, 239.0, 1e4]))
    np.testing.assert_array_equal(below, [np.nan, 1.0, 96.0, 224.0, np.nan])
    np.testing.assert_array_equal(above, [np.nan, 1.125, 104.0, 240.0, np.nan])
    accuracy = decimal_accuracy(np.array([1.0]), np.array([10.0]))
    np.testing.assert_allclose(accuracy, -np.log10(0.5))


def test_shows_a_number(capsys):
    assert main(["posit16", "3.14159", "-1e-3"]) == 0
    out = capsys.readouterr().out
    for line in ("0x4c91", "0 10 01 10010010001", "3.1416015625", "3.140625", "3.142578125"):
        assert line in out
    assert "number   -1e-3 in posit16es2" in out


def test_lists_a_table(capsys):
    assert main(["e2m1", "--table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert lines[7].split() == ["0x07", "0", "11", "1", "6.0"]


def test_draws_a_picture(tmp_path, capsys):
    path = tmp_path / "formats.png"
    assert main(["--plot", str(path), "posit8", "e4m3fn", "fixed8"]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "name a format"),
        (["posit16"], "add a number"),
        (["posit99", "1"], "outside of 3 to 32"),
        (["flat16", "1"], "does not exist; known are"),
        (["posit16", "pi"], "'pi' is no number"),
        (["posit16", "--table"], "at most 8 bits"),
        (["e2m1", "1", "--table"], "leave '1' away"),
        (["nvfp4", "1"], "its element format"),
        (["nvfp4", "--table"], "its element format"),
        (["--plot", "x.png", "nvfp4"], "its element format"),
        (["--plot", "x.doc", "posit8"], "end the name with"),
        (["--plot", "no/such/x.png", "posit8"], "make it first"),
        (["--plot", "x.png", "--table", "posit8"], "two commands"),
        (["--plot"], "expected one argument"),
        (["--colour", "posit8"], "--help lists"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(argv, says, capsys):
    assert main(argv) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    assert main(["posit16", "pi", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_runs_as_a_command_and_draws_nothing_unasked():
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-m", "lpml.formats", "e5m2", "0.1"]
    ran = subprocess.run(run, env=environment, capture_output=True, text=True, cwd=root)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "0x2e" in ran.stdout
    asked = "import sys, lpml.formats.__main__; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], env=environment).returncode == 0


def test_an_exponent_out_of_reach_is_refused_at_once():
    with pytest.raises(ValueError, match="'1e1000000000' is out of reach: exponents of 10"):
        show(formats.by_name("posit8"), "1e1000000000")
