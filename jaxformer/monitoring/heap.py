"""Settings of the C library's heap for the arrays of a CPU run: huge pages, and memory that is kept.

A training step takes hundreds of megabytes from glibc and gives them back. By default they go to Linux and come as new
pages, cleared one by one, at the next step: a tenth of the time of a small network's step, and another tenth with pages
of 4 KiB. glibc reads its settings from an environment variable, and only as a program starts. Not for the memory of
GPUs; beside one, the host gets back what it does not use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jaxformer.cores import available_cores
from jaxformer.parallel.local import GPU

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_VARIABLE = "GLIBC_TUNABLES"
_HUGE_PAGES = {"glibc.malloc.hugetlb": 1}
_KEPT = {"glibc.malloc.mmap_max": 0, "glibc.malloc.trim_threshold": 2**40, "glibc.malloc.arena_max": 1}
"""Large arrays from the heap instead of `mmap`, nothing given back, and one heap: others hold no large array."""

_MOST_CORES = 8
"""With more, threads might wait for the one heap: nobody has measured it."""


def restart_with_heap_settings(setting: Path = _SETTING) -> None:
    """Starts this program again, in the same process, with the settings above; returns where they change nothing.

    Huge pages are asked for where Linux grants them to those who ask. Whatever the variable says already stays as it
    is: `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` keeps them off, and `GLIBC_TUNABLES=glibc.malloc.mmap_max=65536` lets
    memory go back to the system.

    Args:
      setting: the file in which Linux says who gets huge pages.
    """
    if not sys.platform.startswith("linux"):
        return
    given = os.environ.get(_VARIABLE, "")
    keeps = available_cores() <= _MOST_CORES and not GPU.exists()
    wanted: dict[str, int] = {}
    for group, helps in ((_HUGE_PAGES, _grants_huge_pages(setting)), (_KEPT, keeps)):
        if helps and not any(name in given for name in group):
            wanted |= group
    if wanted:
        os.environ[_VARIABLE] = ":".join(filter(None, [given, *(f"{name}={value}" for name, value in wanted.items())]))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _grants_huge_pages(setting: Path) -> bool:
    """Whether Linux grants them to those who ask, rather than to all or to none."""
    try:
        return "[madvise]" in setting.read_text()
    except OSError:
        return False
