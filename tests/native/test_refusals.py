"""What does not fit is an error of the call that names it, and never a crash."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SETS, needs_kernels

from lpml import native

pytestmark = needs_kernels
PLACES = native.Places()


def halp(places=PLACES, loss="squared", **changed):
    """A call that is right but for what is changed."""
    given = dict(
        codes=jnp.zeros((1, 64), jnp.int8),
        noise=jnp.ones(native.noise_shape(1, 64), jnp.uint32),
        watched=native.nothing_seen(),
        rows=jnp.ones((3, 64), jnp.int8),
        h=jnp.zeros((1, 64), jnp.int16),
        samples=jnp.zeros(4, jnp.int32),
        taken=jnp.int32(4),
        at_anchor=jnp.full((3, 1), 0.5, jnp.float32),
        seed=jnp.zeros(2, jnp.uint32),
        scalars=jnp.zeros(3, jnp.float32),
        shift=jnp.int32(8),
    )
    given |= changed
    steps = native.Steps(given.pop("samples"), given.pop("taken"), jnp.int32(0))
    state = [given.pop(name) for name in ("codes", "noise", "watched")]
    return jax.block_until_ready(
        native.halp_steps(*state, **given, steps=steps, loss=loss, places=places)
    )


def svrg(places=PLACES, loss="squared", **changed):
    given = dict(
        offset=jnp.zeros((1, 16), jnp.float32),
        watched=native.nothing_seen(),
        rows=jnp.ones((3, 16), jnp.float32),
        h=jnp.zeros((1, 16), jnp.float32),
        steps=native.Steps(jnp.zeros(4, jnp.int32), jnp.int32(4), jnp.int32(0)),
        at_anchor=jnp.full((3, 1), 0.5, jnp.float32),
        y=jnp.zeros(3, jnp.float32),
        scalars=jnp.ones(2, jnp.float32),
    )
    given |= changed
    state = [given.pop(name) for name in ("offset", "watched")]
    return jax.block_until_ready(native.float_steps(*state, **given, loss=loss, places=places))


def full_pass(loss="squared", **changed):
    with jax.enable_x64(True):
        given = dict(
            weights=np.zeros((1, 64), np.int8),
            rows=np.ones((3, 64), np.int8),
            y=np.zeros(3),
            outputs=np.zeros((3, 1)),
            scalars=np.ones(2),
        )
        given = {name: jnp.asarray(value) for name, value in (given | changed).items()}
        return jax.block_until_ready(native.full_pass(given.pop("weights"), **given, loss=loss))


def test_the_calls_are_right_as_they_are():
    halp()
    svrg()
    svrg(h=None)
    full_pass()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"rows": jnp.ones((3, 128), jnp.int8)},
            r"codes is int8 \(1, 64\), not int8 \(1, 128\)",
        ),
        ({"rows": jnp.ones((3, 64), jnp.int16)}, "codes is int8"),
        ({"rows": jnp.ones((0, 64), jnp.int8)}, "no samples"),
        ({"rows": jnp.ones((3, 60), jnp.int8)}, "60 entries are not padded"),
        ({"rows": jnp.ones((64,), jnp.int8)}, "not padded|rows is"),
        ({"rows": jnp.ones((1, 2**19 + 64), jnp.int8)}, "too long for sums of 32 bits"),
        ({"codes": jnp.zeros((0, 64), jnp.int8)}, "no outputs"),
        ({"h": jnp.zeros((1, 64), jnp.int32)}, r"h is int32 \(1, 64\), not int16"),
        ({"noise": jnp.ones((1, 1, 8), jnp.uint32)}, "noise is uint32"),
        ({"seed": jnp.zeros(3, jnp.uint32)}, "seed is"),
        ({"watched": jnp.zeros(7, jnp.uint32)}, "seen is"),
        ({"scalars": jnp.zeros(2, jnp.float32)}, "scalars is"),
        ({"samples": jnp.full(4, 3, jnp.int32)}, "index 3 is not that of a sample"),
        ({"samples": jnp.full(4, -1, jnp.int32)}, "index -1 is not that of a sample"),
        ({"taken": jnp.int32(5)}, "count = 5"),
        ({"taken": jnp.int32(-1)}, "count = -1"),
        ({"shift": jnp.int32(7)}, "shift = 7"),
        ({"shift": jnp.int32(15)}, "shift = 15"),
        ({"loss": "logistic", "at_anchor": jnp.zeros((3, 2), jnp.float32)}, "at_anchor is"),
        ({"places": native.Places(0)}, "threads = 0"),
        ({"places": native.Places(65)}, "threads = 65"),
        ({"places": native.Places(1, "mmx")}, "instruction set mmx does not exist"),
    ],
)
def test_halp(changed, message):
    with pytest.raises(Exception, match=f"lpml.native: .*({message})"):
        halp(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": jnp.ones((3, 16), jnp.int8)}, "not padded|rows is int8"),
        ({"offset": jnp.zeros((1, 32), jnp.float32)}, "offset is"),
        ({"h": jnp.zeros((2, 16), jnp.float32)}, "h is"),
        ({"h": None, "y": jnp.zeros(2, jnp.float32)}, "y is"),
        ({"scalars": jnp.ones(3, jnp.float32)}, "scalars is"),
        ({"h": None, "offset": jnp.zeros((2, 16), jnp.float32)}, "one output"),
        (
            {"h": None, "loss": "softmax", "y": jnp.ones(3), "at_anchor": jnp.ones((3, 1))},
            "a label is not that of a class",
        ),
    ],
)
def test_svrg(changed, message):
    with pytest.raises(Exception, match=f"lpml.native: .*({message})"):
        svrg(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": np.zeros((1, 128), np.int8)}, "codes or weights is"),
        ({"weights": np.zeros((1, 63))}, "codes or weights is"),
        ({"weights": np.zeros((1, 64), np.float32)}, "codes or weights is"),
        ({"weights": np.zeros((1, 64)), "rows": np.ones((3, 64), np.int16)}, "rows is int16"),
        ({"rows": np.ones((3, 64))}, "rows is float64"),
        ({"weights": np.zeros((2, 64), np.int8), "outputs": np.zeros((3, 2))}, "one output"),
        ({"y": np.zeros(3, np.float32)}, "y is float32"),
        ({"y": np.array([0, 1.0, 2]), "loss": "softmax"}, "a label is not that of a class"),
        ({"y": np.array([0, np.nan, 0]), "loss": "softmax"}, "a label is not that of a class"),
    ],
)
def test_passes(changed, message):
    with pytest.raises(Exception, match=f"lpml.native: .*({message})"):
        full_pass(**changed)


@pytest.mark.skipif("avx512" in SETS, reason="it runs here")
def test_an_instruction_set_that_the_processor_lacks_is_an_error():
    with pytest.raises(Exception, match="this processor does not run instruction set avx512"):
        halp(places=native.Places(1, "avx512"))


def test_a_pass_without_x64_is_refused():
    with pytest.raises(ValueError, match="x64"):
        native.full_pass(
            jnp.zeros((1, 64), jnp.int8),
            rows=jnp.ones((3, 64), jnp.int8),
            y=jnp.zeros(3),
            outputs=jnp.zeros((3, 1)),
            scalars=jnp.ones(2),
            loss="squared",
        )
