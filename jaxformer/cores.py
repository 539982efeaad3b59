"""The CPU cores of this process: which they are, how many, and divided among processes that it starts.

By its affinity; a container's quota is told by `monitoring.machine.usable_cores`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence


def bound_cores() -> list[int]:
    """The numbers of the cores that this process is bound to, in order; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(bound_cores()) or os.cpu_count() or 1


def shared_cores(processes: int) -> list[list[int]]:
    """The cores of each process: those of this one divided, or one for several where there are too few of them."""
    cores = bound_cores()
    if not cores:
        return [[] for _ in range(processes)]
    if processes >= len(cores):
        return [[cores[number % len(cores)]] for number in range(processes)]
    cuts = [number * len(cores) // processes for number in range(processes + 1)]
    return [cores[first:last] for first, last in itertools.pairwise(cuts)]


@contextlib.contextmanager
def bound_to(cores: Sequence[int]) -> Iterator[None]:
    """Processes that are started in here run on `cores` alone; on all of ours if empty."""
    ours = bound_cores()
    if cores:
        os.sched_setaffinity(0, cores)  # inherited: before a process asks how many there are
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, ours)
