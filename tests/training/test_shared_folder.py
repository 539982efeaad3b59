"""One folder for all processes: where the first cannot write, and what is seen late.

Folders that are not shared are in `tests/parallel/test_processes.py`.
"""

from __future__ import annotations

import threading

import jax
import pytest

from jaxformer.monitoring.durable import DiskError
from jaxformer.training import shared_folder
from jaxformer.training.shared_folder import check_shared
from jaxformer.training.workdir import Workdir


@pytest.mark.parametrize("process", [0, 1])
def test_where_the_first_cannot_write_all_are_told(monkeypatch, tmp_path, process):
    def every_ones(value: tuple[str, str]) -> list[tuple[str, str]]:
        return [("", "cannot write there: a part of the path is a file") if process else value, ("", "")]

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(shared_folder, "every_ones", every_ones)
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"cannot write .*: a part of the path is a file"):
        check_shared(Workdir(tmp_path / "file/run"))


def test_what_another_host_has_written_may_be_seen_late(tmp_path):
    (tmp_path / "run").mkdir()
    writing = threading.Timer(0.3, (tmp_path / "run/token").touch)
    writing.start()
    assert shared_folder._seen(tmp_path / "run/token")
    writing.join()
