"""Where the metrics of a run go: `metrics.jsonl`, the record that everything else is made from, and TensorBoard.

A tracker takes (step, metrics) and nothing else. Not for computing metrics, and not for the live line
(`monitoring.progress`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from jaxformer.monitoring.durable import atomic_write, explain_disk_errors, plain

_LOGGER = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    """Takes the metrics of a step."""

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Records `metrics`, named `train/loss`, `validation/bleu`, ..., at `step`."""

    def sync(self) -> None:
        """Makes sure that what was logged survives a power cut; called with every checkpoint."""

    def close(self) -> None:
        """Writes what is left and releases the files."""


class JsonlTracker:
    """One JSON object a line: `step`, `time` (seconds since 1970) and the metrics, floats in full precision.

    Every record reaches the operating system at once, so that a killed process loses none.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = Path(path)
        self._file = self._open()

    def _open(self) -> TextIO:
        with explain_disk_errors(self._path):
            file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
            if _torn(self._path):
                file.write("\n")  # so that the next record does not join a line that a crash tore
            return file

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends one record.

        Raises:
          DiskError: if the disk is full.
        """
        record = {"step": int(step), "time": time.time(), **plain(metrics)}
        with explain_disk_errors(self._path):
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()

    def truncate_after(self, step: int, *, again: tuple[str, ...] = ()) -> int:
        """Drops the records that a run resumed at `step` makes again, and returns how many that were.

        These are the records of later steps and, of `step` itself, those with a name that begins as one of `again`
        does. A last line that was torn by a crash is dropped too.
        """
        self._file.close()
        with explain_disk_errors(self._path):
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
            kept = [line for line in lines if (record := _parsed(line)) is not None and not _made(record, step, again)]
            if len(kept) != len(lines):
                atomic_write(self._path, "".join(f"{line}\n" for line in kept))
        self._file = self._open()
        return len(lines) - len(kept)

    def sync(self) -> None:
        """Waits until the records are on the disk."""
        with explain_disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; further calls do nothing."""
        if not self._file.closed:
            with explain_disk_errors(self._path):
                self._file.close()


class TensorBoardTracker:
    """Event files for TensorBoard, by the `RecordWriter` of tensorboardX, each record of metrics on the disk at once.

    Not by its `SummaryWriter`: the thread of that one and what it does as the process ends write too, and on a full
    disk each dies with a stack trace of its own, while nobody takes what is logged after that.

    Args:
      directory: of the event files.
      purge_after: when resuming, the restored step: TensorBoard hides what an earlier run logged beyond it.
    """

    def __init__(self, directory: str | os.PathLike[str], *, purge_after: int | None = None):
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.record_writer import RecordWriter

        self._directory = Path(directory)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        with explain_disk_errors(directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter(os.fspath(self._directory / name))
            try:
                self._write(file_version="brain.Event:2")
                if purge_after is not None:
                    self._write(step=purge_after + 1, session_log=SessionLog(status=SessionLog.START))
                self._records.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    self._records.close()
                raise

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds every number of `metrics` as a scalar; text is left out.

        Raises:
          DiskError: if the disk is full.
        """
        from tensorboardX.summary import scalar

        with explain_disk_errors(self._directory):
            for name, value in metrics.items():
                value = value.item() if hasattr(value, "item") else value
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._write(step=int(step), summary=scalar(name, value))
            self._records.flush()

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def sync(self) -> None:
        """Does nothing more: what was logged is on the disk."""

    def close(self) -> None:
        """Closes the file; further calls do nothing."""
        with explain_disk_errors(self._directory):
            self._records.close()


class Trackers:
    """Several trackers as one.

    Args:
      trackers: in the order in which they are told.
      beside: are told after them, and not closed: whoever made them does that.
    """

    def __init__(self, trackers: Iterable[Tracker], *, beside: Iterable[Tracker] = ()):
        self._trackers, self._beside = tuple(trackers), tuple(beside)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs to each."""
        for tracker in (*self._trackers, *self._beside):
            tracker.log(step, metrics)

    def sync(self) -> None:
        """Syncs each."""
        for tracker in (*self._trackers, *self._beside):
            tracker.sync()

    def close(self) -> None:
        """Closes each, also where another one fails."""
        with contextlib.ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.close)


def check_trackers(trackers: Any) -> None:
    """Refuses, before anything is made, what is no sequence of trackers: `ValueError`."""
    if not isinstance(trackers, Sequence):
        raise ValueError(f"trackers are given in a list, got {trackers!r}")
    for tracker in trackers:
        if isinstance(tracker, type) or not isinstance(tracker, Tracker):
            raise ValueError(f"a tracker (jf.Tracker) is an object with log, sync and close, got {tracker!r}")


@contextlib.contextmanager
def closed_in_the_end(trackers: Sequence[Tracker]) -> Iterator[Trackers]:
    """`trackers` as one; each is closed when the block ends, however it does.

    An error of the block stays the one that is raised: what closing says beside it is logged.
    """
    try:
        yield Trackers(trackers)
    except BaseException:
        for tracker in trackers:
            try:
                tracker.close()
            except Exception as error:
                _LOGGER.warning("%r could not be closed: %s", tracker, error, exc_info=True)
        raise
    Trackers(trackers).close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl` in order.

    Lines that a crash tore are skipped; "nan" and "inf" are floats again.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = (_parsed(line) for line in lines)
    return [{name: _number(value) for name, value in record.items()} for record in records if record is not None]


def _made(record: dict[str, Any], step: int, again: tuple[str, ...]) -> bool:
    """Whether a run that is resumed at `step` makes this record again."""
    here = record["step"] == step and any(name.startswith(again) for name in record)
    return here or record["step"] > step


def _torn(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value
