"""Writing survives, and refusals of the disk say what to do."""

import errno
import json
import math

import numpy as np
import pytest

from jaxformer.monitoring.durable import DiskError, atomic_write, explain_disk_errors, plain


def test_atomic_write_replaces_the_text_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "config.json"
    atomic_write(path, "old")
    atomic_write(path, "new Größe")
    assert path.read_text(encoding="utf-8") == "new Größe"
    atomic_write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_text_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    atomic_write(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="the disk is full: free some space or choose another --workdir"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_device_is_explained():
    with (
        pytest.raises(DiskError, match="cannot write /dev/full: the disk is full"),
        explain_disk_errors("/dev/full"),
        open("/dev/full", "w") as file,
    ):
        file.write("x" * 100_000)


def test_a_file_in_the_way_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="a part of the path is a file"):
        atomic_write(tmp_path / "file" / "config.json", "x")


def _raise_while_writing(error):
    with explain_disk_errors("there"):
        raise error


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EACCES, "no permission"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output error")]
)
def test_each_refusal_says_what_it_is_and_keeps_its_number(number, said):
    error = OSError(number, "Input/output error" if number == errno.EIO else "")
    with pytest.raises(DiskError, match=f"cannot write there: .*{said}.* choose another --workdir") as caught:
        _raise_while_writing(error)
    assert caught.value.errno == number


def test_plain_is_strict_json_with_full_precision():
    values = {
        "third": np.float64(1 / 3),
        "count": np.int64(3),
        "array": np.array(2.5),
        "many": (1, [math.nan]),
        "inf": -math.inf,
        "yes": True,
    }
    text = json.dumps(plain(values), allow_nan=False)
    assert json.loads(text) == {
        "third": 1 / 3, "count": 3, "array": 2.5, "many": [1, ["nan"]], "inf": "-inf", "yes": True,
    }
