"""The cores of a process: counted, and divided."""

from __future__ import annotations

import os

import pytest

from jaxformer.cores import available_cores, bound_cores, bound_to, shared_cores


@pytest.mark.parametrize(
    ("processes", "shares"),
    [(1, [[0, 1, 2, 5, 7]]), (2, [[0, 1], [2, 5, 7]]), (5, [[0], [1], [2], [5], [7]]),
     (6, [[0], [1], [2], [5], [7], [0]])],
)  # fmt: skip
def test_processes_divide_the_cores(processes, shares, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 0, 1, 5, 2}, raising=False)
    assert shared_cores(processes) == shares


def test_a_system_that_does_not_tell_binds_nobody(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (bound_cores(), available_cores(), shared_cores(2)) == ([], 6, [[], []])
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_what_is_started_inside_runs_on_those_cores_alone():
    ours = bound_cores()
    assert available_cores() == len(ours)
    with bound_to(ours[:1]):
        assert bound_cores() == ours[:1]
    with bound_to([]):
        assert bound_cores() == ours
    assert bound_cores() == ours
