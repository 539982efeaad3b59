"""Starting again with other settings of the heap: only where they help, only once, with the same command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.monitoring import heap

KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.arena_max=1"


class Restarted(Exception):
    pass


@pytest.fixture
def restart(monkeypatch):
    def execv(program, arguments):
        raise Restarted(program, arguments)

    monkeypatch.setattr(heap.os, "execv", execv)
    monkeypatch.setattr(heap.os, "sched_getaffinity", lambda process: range(8), raising=False)
    monkeypatch.setattr(heap, "GPU", Path("/nowhere"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return monkeypatch


def _setting(tmp_path, text="always [madvise] never\n"):
    path = tmp_path / "enabled"
    path.write_text(text)
    return path


def test_restarts_once_with_the_same_command_line(restart, tmp_path):
    restart.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    setting = _setting(tmp_path)
    with pytest.raises(Restarted) as restarted:
        heap.restart_with_heap_settings(setting)
    program, arguments = restarted.value.args
    assert program == sys.executable
    assert arguments[1:] == sys.orig_argv[1:]
    assert heap.os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=0:glibc.malloc.hugetlb=1:{KEPT}"
    heap.restart_with_heap_settings(setting)  # the second time, the variable is there


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]", None])
def test_asks_for_huge_pages_only_where_that_decides(restart, tmp_path, text):
    setting = tmp_path / "missing" if text is None else _setting(tmp_path, text)
    with pytest.raises(Restarted):
        heap.restart_with_heap_settings(setting)
    assert heap.os.environ["GLIBC_TUNABLES"] == KEPT


@pytest.mark.parametrize(
    ("given", "added"),
    [("glibc.malloc.hugetlb=0", KEPT), ("glibc.malloc.mmap_max=65536", "glibc.malloc.hugetlb=1")],
)
def test_leaves_what_a_person_has_set(restart, tmp_path, given, added):
    restart.setenv("GLIBC_TUNABLES", given)
    with pytest.raises(Restarted):
        heap.restart_with_heap_settings(_setting(tmp_path))
    assert heap.os.environ["GLIBC_TUNABLES"] == f"{given}:{added}"


def test_keeps_no_memory_where_many_threads_would_share_the_heap(restart, tmp_path):
    restart.setattr(heap.os, "sched_getaffinity", lambda process: range(9))
    with pytest.raises(Restarted):
        heap.restart_with_heap_settings(_setting(tmp_path))
    assert heap.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_keeps_no_memory_beside_a_gpu(restart, tmp_path):
    restart.setattr(heap, "GPU", tmp_path)
    with pytest.raises(Restarted):
        heap.restart_with_heap_settings(_setting(tmp_path))
    assert heap.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_leaves_other_systems_alone(restart, tmp_path):
    restart.setattr(sys, "platform", "darwin")
    heap.restart_with_heap_settings(_setting(tmp_path))  # `Restarted` would end the test
    assert "GLIBC_TUNABLES" not in heap.os.environ


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_kept_memory_is_not_taken_anew():
    """glibc knows the settings: an array freed and taken again brings no new pages."""
    program = """
import ctypes, resource
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = libc.malloc(100 << 20)
    ctypes.memset(place, 1, 100 << 20)
    libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    counts = [
        int(subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True).stdout)
        for env in ({}, {"GLIBC_TUNABLES": KEPT})
    ]
    assert counts[0] > 40  # of 2 MiB at most
    assert counts[1] < 10
