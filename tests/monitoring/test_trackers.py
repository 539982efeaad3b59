"""Records come back exactly, survive crashes, and are cut back on resume."""

import json
import math
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxformer.monitoring.durable import DiskError
from jaxformer.monitoring.trackers import JsonlTracker, TensorBoardTracker, Trackers, read_metrics


def test_records_come_back_in_order_with_every_bit(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    loss = float(np.float32(1) / np.float32(3))
    tracker.log(50, {"train/loss": np.float32(1) / np.float32(3), "train/tokens": 7})
    tracker.log(100, {"train/loss": 0.1 + 0.2})
    tracker.close()
    first, second = read_metrics(path)
    assert struct.pack("d", first["train/loss"]) == struct.pack("d", loss)
    assert (first["step"], first["train/tokens"], second["train/loss"]) == (50, 7, 0.1 + 0.2)
    assert first["time"] <= second["time"]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [50, 100]


def test_a_record_is_readable_before_the_file_is_closed(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log(1, {"train/loss": 1.0})
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1]
    tracker.close()


def test_what_is_not_a_number_is_strict_json_and_a_float_again(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log(1, {"train/loss": math.nan, "train/grad_norm": math.inf})
    tracker.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert math.isnan(record["train/loss"])
    assert record["train/grad_norm"] == math.inf


def test_resuming_drops_newer_records_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    for step in (50, 100, 150, 200):
        tracker.log(step, {"train/loss": float(step)})
    tracker.close()
    with open(path, "a") as file:
        file.write('{"step": 250, "train/lo')
    tracker = JsonlTracker(path)
    assert tracker.truncate_after(100) == 3
    tracker.log(150, {"train/loss": 1.5})
    tracker.sync()
    tracker.close()
    kept = [(record["step"], record["train/loss"]) for record in read_metrics(path)]
    assert kept == [(50, 50.0), (100, 100.0), (150, 1.5)]


def test_records_of_the_step_itself_that_are_made_again_are_dropped(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    for metrics in ({"train/loss": 1.0}, {"validation/bleu": 2.0}, {"final/validation/bleu": 3.0, "test/bleu": 4.0}):
        tracker.log(100, metrics)
    assert tracker.truncate_after(100, again=("final/", "test/")) == 1
    assert tracker.truncate_after(100, again=("final/", "test/", "validation/")) == 1
    tracker.close()
    (kept,) = read_metrics(tmp_path / "metrics.jsonl")
    assert kept["train/loss"] == 1.0


def test_a_record_never_joins_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "tr')
    tracker = JsonlTracker(path)
    tracker.log(3, {"train/loss": 4.0})
    tracker.close()
    assert [record["step"] for record in read_metrics(path)] == [1, 3]


def test_nothing_is_dropped_when_nothing_is_newer(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log(5, {"a": 1})
    before = path.read_bytes()
    assert tracker.truncate_after(5) == 0
    tracker.close()
    assert path.read_bytes() == before


def test_no_file_is_no_records(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_full_disk_is_explained():
    tracker = JsonlTracker("/dev/full")
    with pytest.raises(DiskError, match="cannot write /dev/full: the disk is full"):
        tracker.log(1, {"train/loss": 1.0})
    with pytest.raises(DiskError, match="the disk is full"):
        tracker.close()  # the record that waits in memory cannot be written either, and that is said, not hidden


def test_an_unwritable_place_is_explained(tmp_path):
    with pytest.raises(DiskError, match="it is a folder, not a file"):
        JsonlTracker(tmp_path)


def _scalars(directory):
    """(tag, step, value) of the event files."""
    events = _events(directory)
    return [(value.tag, event.step, value.simple_value) for event in events for value in event.summary.value]


def _events(directory):
    """What the event files hold, read by the record format itself: length, crc, bytes, crc."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    found = []
    for file in sorted(directory.iterdir()):
        data, position = file.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            assert struct.unpack_from("<I", data, position + 8) == (masked_crc32c(data[position : position + 8]),)
            content = data[position + 12 : position + 12 + length]
            assert struct.unpack_from("<I", data, position + 12 + length) == (masked_crc32c(content),)
            event = Event.FromString(content)
            found.append(event)
            position += 12 + length + 4
    return found


def test_tensorboard_gets_every_number_and_no_text(tmp_path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(10, {"train/loss": 0.5, "validation/bleu": np.float32(30.5), "test/signature": "nrefs:1"})
    tracker.sync()
    tracker.close()
    assert _scalars(tmp_path) == [("train/loss", 10, 0.5), ("validation/bleu", 10, 30.5)]


def test_several_trackers_are_one(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    trackers = Trackers([JsonlTracker(first), JsonlTracker(second)])
    trackers.log(1, {"x": 2})
    trackers.sync()
    trackers.close()
    assert [record["x"] for record in (*read_metrics(first), *read_metrics(second))] == [2, 2]


def test_when_resuming_tensorboard_is_told_what_to_hide(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    TensorBoardTracker(tmp_path, purge_after=100).close()
    first, second = _events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert (second.step, second.session_log.status) == (101, SessionLog.START)


def test_events_are_readable_before_the_file_is_closed(tmp_path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(10, {"train/loss": 0.5})
    assert _scalars(tmp_path) == [("train/loss", 10, 0.5)]
    tracker.close()


def test_a_disk_too_full_for_events_is_explained(tmp_path):
    from tensorboardX.record_writer import RecordWriter

    tracker = TensorBoardTracker(tmp_path)
    tracker._records.close()
    tracker._records = RecordWriter("/dev/full")
    message = f"cannot write {tmp_path}: the disk is full: free some space"
    with pytest.raises(DiskError, match=message):
        tracker.log(1, {"train/loss": 1.0})
    with pytest.raises(DiskError, match=message):
        tracker.close()
    tracker.close()


@pytest.mark.parametrize("allowed", [0, 3])
def test_a_full_disk_is_told_once_and_by_nobody_else(tmp_path, allowed):
    code = textwrap.dedent(f"""
        import builtins, io, os, sys
        from jaxformer.monitoring.trackers import TensorBoardTracker

        class Full(io.RawIOBase):
            left = {allowed}
            writable = lambda self: True
            fileno = lambda self: descriptor
            def write(self, data):
                self.left -= 1
                if self.left < 0:
                    raise OSError(28, "No space left on device")
                return len(data)

        descriptor = os.open(sys.argv[1] + "/real", os.O_CREAT | os.O_WRONLY)
        real = builtins.open
        full = lambda: io.BufferedWriter(Full())
        builtins.open = lambda path, *mode, **more: full() if "tfevents" in str(path) else real(path, *mode, **more)
        tracker = None
        try:
            tracker = TensorBoardTracker(sys.argv[1])
            for step in range(40):
                tracker.log(step, {{"train/loss": 1.0}})
                tracker.sync() if step == 30 else None
        except OSError as error:
            print(error, file=sys.stderr)
            try:
                tracker and tracker.close()
            except OSError:
                pass
    """)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    remedy = "the disk is full: free some space or choose another --workdir"
    assert (done.returncode, done.stderr) == (0, f"cannot write {tmp_path}: {remedy}\n")
