"""The closed forms are checked in float64."""

import jax
import pytest


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield
