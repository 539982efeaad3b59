"""Entries appear whole or not at all; trouble with the folder is told with folder and flag."""

import errno
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxformer.data.cache import cache_folder, cached, digest
from jaxformer.data.seal import seal


def test_the_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "jaxformer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/.cache/jaxformer"
    assert cache_folder("~/mine") == tmp_path / "home/mine"


def test_the_digest_is_of_content_not_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "data").write_text("x")

    for _ in range(2):
        assert (cached(str(tmp_path / "new/cache"), "entry", build) / "data").read_text() == "x"
    assert len(calls) == 1


def test_a_failed_build_leaves_no_entry_and_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no usable pair")

    with pytest.raises(ValueError, match=r"no usable pair"):
        cached(str(tmp_path), "entry", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["entry.lock"]
    assert cached(str(tmp_path), "entry", lambda folder: None) == tmp_path / "entry"


def test_leftovers_of_killed_runs_are_removed_and_the_work_of_others_stays(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    here = f".making-{socket.gethostname()}-"
    dead, alive = tmp_path / f"{here}{ended.stdout.strip()}-abc", tmp_path / f"{here}{os.getppid()}-abc"
    elsewhere = tmp_path / f".making-another-{ended.stdout.strip()}-abc"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
        (folder / "half").write_text("x")
    cached(str(tmp_path), "entry", lambda folder: None)
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere.name, "entry", "entry.lock"}


def test_two_at_once_build_once(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.1)

    threads = [threading.Thread(target=cached, args=(str(tmp_path), "entry", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (tmp_path / "entry").is_dir()


def test_a_damaged_entry_is_made_again_once_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "data").write_text("content")
        time.sleep(0.1)

    before = open(cached(str(tmp_path), "entry", build) / "data")  # noqa: SIM115 - by a process that goes on
    (tmp_path / "entry" / "data").write_text("zeros")
    with caplog.at_level(logging.WARNING, logger="absl"):
        threads = [threading.Thread(target=cached, args=(str(tmp_path), "entry", build)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [record.getMessage() for record in caplog.records] == [
        f"the data cache is damaged and made again: {tmp_path / 'entry'} (data has 5 bytes instead of 7)"
    ]
    assert len(calls) == 2
    assert (tmp_path / "entry" / "data").read_text() == "content"
    with before:
        assert before.read() == "zeros"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["entry", "entry.lock"]


def test_an_entry_appears_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, synced = os.rename, []

    def renamed(source: Path, target: Path) -> None:
        if target == tmp_path / "entry":
            assert {path.stat().st_ino for path in (source, source / "data", source / "seal.json")} <= set(synced)
            synced.clear()
        rename(source, target)

    monkeypatch.setattr("os.rename", renamed)
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    cached(str(tmp_path), "entry", lambda folder: (folder / "data").write_text("x") and None)
    assert synced == [tmp_path.stat().st_ino]  # and then its name


def test_without_locks_the_quicker_one_wins(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "by").write_text("slow")
        (tmp_path / "entry").mkdir()  # meanwhile another process publishes
        (tmp_path / "entry" / "by").write_text("quick")
        seal(tmp_path / "entry")

    assert (cached(str(tmp_path), "entry", build) / "by").read_text() == "quick"
    assert not list(tmp_path.glob(".making-*"))


def test_a_folder_that_cannot_be_written_is_named_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write the data cache in .*file/cache.*--config.data.cache_dir"):
        cached(str(tmp_path / "file" / "cache"), "entry", lambda folder: None)


def test_a_folder_whose_parent_cannot_be_made_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "nope"))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OSError, match=r"cannot write the data cache in .*nope/mine: Permission denied.*cache_dir"):
        cached(str(tmp_path / "nope" / "mine"), "entry", lambda folder: None)


def test_a_full_disk_is_named_with_the_flag(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"cannot write the data cache in .*No space left on device.*cache_dir"):
        cached(str(tmp_path), "entry", build)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full_is_such_a_disk(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(OSError, match=r"No space left on device.*cache_dir"):
        cached(str(tmp_path), "entry", build)


def test_errors_of_reading_input_pass_unchanged(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise FileNotFoundError("train.en does not exist")

    with pytest.raises(FileNotFoundError, match=r"^train.en does not exist$"):
        cached(str(tmp_path), "entry", build)
