"""TensorBoard event files, written with the `tensorboard` package alone.

`tensorboard`'s own record writer and protos frame the events; TensorFlow is never imported,
not even where it is installed, and no background thread holds lines back. Scalars are
stored as simple values, so `EventAccumulator.Scalars` reads them as well as TensorBoard.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


class EventWriter:
    """Writes one event file into a run's folder; everything written is on disk on return.

    Bytes are handed to the operating system by each method, so a killed process loses
    nothing it logged. Several writers one after the other may share a folder, as a resumed
    run does; TensorBoard reads their files in the order they were opened.

    Args:
        folder: the run's folder, made if absent. Its name is the run's name in TensorBoard.
        ending: of the file's name.

    Raises:
        OSError: the folder or the file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, ending: str = ""):
        # Imported here because it costs 0.3 s, and some commands never log.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = event_pb2.Event
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Readers sort by name; nanoseconds keep a quick resume behind the file it follows.
        seconds, nanos = divmod(time.time_ns(), 10**9)
        path = self._folder / f"events.out.tfevents.{seconds:010d}.{nanos:09d}{ending}"
        self._records = RecordWriter(path.open("xb"))
        self._write(file_version="brain.Event:2")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one value per tag at `step` (0 or more); NaN and infinities are kept.

        TensorBoard stores float32: the exact numbers are in the metrics log.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=t, simple_value=float(v)) for t, v in values.items()]
        self._write(step=step, summary=Summary(value=entries))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Writes Markdown for the TEXT tab."""
        from tensorboard.plugins.text import summary_v2

        self._write(step=step, summary=summary_v2.text_pb(tag, markdown))

    def image(self, tag: str, png: bytes | str | os.PathLike[str], step: int = 0) -> None:
        """Writes one PNG picture, given as its bytes or as a file's path.

        Raises:
            OSError: the file cannot be read.
            ValueError: the bytes are no PNG picture.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = png if isinstance(png, bytes) else Path(png).read_bytes()
        width, height = _png_size(content)
        image = Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=content
        )
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def hparams(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Writes this run's row of the HPARAMS table; its scalars become the metric columns.

        No experiment-level summary is written: with one, TensorBoard shows only the keys it
        lists; without, the union of all runs' keys and scalar tags. Each folder is its own
        row, also when two runs share all values.

        Raises:
            TypeError: a value is neither a number, a truth value nor text.
        """
        from tensorboard.plugins.hparams import summary_v2

        # The default id is a hash of the values and would merge runs that share them.
        place = str(self._folder.resolve())
        row = f"{Path(place).name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        self._write(summary=summary_v2.hparams_pb(dict(values), trial_id=row))

    def end(self, status: Literal["success", "failure"]) -> None:
        """Marks the run's row as ended. TensorBoard keeps the first status a folder gets.

        So do not mark a run that may be resumed; without a mark it shows as running.

        Raises:
            ValueError: another status.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        codes = {"success": api_pb2.STATUS_SUCCESS, "failure": api_pb2.STATUS_FAILURE}
        if status not in codes:
            raise ValueError(f"status must be one of {', '.join(codes)}, not {status!r}")
        info = plugin_data_pb2.SessionEndInfo(status=codes[status], end_time_secs=time.time())
        content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
        entry = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(content),
            tensor=metadata.NULL_TENSOR,
        )
        self._write(summary=Summary(value=[entry]))

    def restart(self, step: int) -> None:
        """Says that the run goes on from `step`: readers drop what was logged after it."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # Readers purge from the event's own step on, and `step` itself is to stay.
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def flush(self) -> None:
        """Hands buffered bytes to the operating system; every method has done so already."""
        self._records.flush()

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if not self._records.closed:
            self._records.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
        self._records.flush()


def _png_size(content: bytes) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            return picture.size
    except OSError as error:
        raise ValueError("the picture is not in PNG format") from error
