import contextlib
import os
from pathlib import Path

import pytest

from lpml import data


@pytest.fixture
def refused():
    """A context in which a DataError of one sentence is raised that holds the given words."""

    @contextlib.contextmanager
    def check(*words):
        with pytest.raises(data.DataError) as caught:
            yield
        message = str(caught.value)
        assert message.endswith(".")
        assert "\n" not in message
        assert ". " not in message
        for word in words:
            assert str(word) in message

    return check


@pytest.fixture
def published():
    """The folder of a published data set under LPML_DATA, or a skip."""

    def folder(name):
        root = os.environ.get("LPML_DATA", "")
        if not root or not (Path(root) / name).exists():
            pytest.skip(f"LPML_DATA does not name a folder with {name}")
        return root

    return folder
