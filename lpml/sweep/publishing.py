"""Results of many runs on disk: files whole or not at all, and TensorBoard's copy of them."""

import io
import os
from collections.abc import Mapping
from typing import Any

from lpml.training.events import EventWriter

DPI = 130


def replace(path: str, content: bytes) -> None:
    """Writes a file in one rename: readers see the old one or the whole new one."""
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def to_png(figure: Any) -> bytes:
    """A matplotlib figure as PNG bytes, without anything that changes from day to day."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def write_events(folder: str, pictures: Mapping[str, bytes], texts: Mapping[str, str]) -> None:
    """One event file with pictures (PNG) and Markdown texts, in place of earlier ones."""
    assert not set(pictures) & set(texts), "TensorBoard keeps one kind of thing per name"
    for old in os.listdir(folder):
        if old.startswith("events.out.tfevents"):
            os.remove(os.path.join(folder, old))
    with EventWriter(folder) as events:
        for name, png in pictures.items():
            events.image(name, png)
        for name, text in texts.items():
            events.text(name, text)
