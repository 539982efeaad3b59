"""Huge pages for the arrays of a CPU run: fewer page faults and address look-ups, 10 to 20 % more tokens a second.

A training step takes hundreds of megabytes from the C library and gives them back. Where Linux grants huge pages to
those who ask (`madvise`), glibc asks for them when told so by an environment variable, which it reads only as a program
starts. Not for GPUs, whose memory is not the host's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"


def restart_with_huge_pages(setting: Path = _SETTING) -> None:
    """Starts this program again, in the same process, with huge pages asked for; returns where that changes nothing.

    Nothing happens where the system grants them to all or to none, or where the variable says something about them
    already: `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` keeps them off.

    Args:
      setting: the file in which Linux says who gets huge pages.
    """
    tunables = os.environ.get(_VARIABLE, "")
    if not sys.platform.startswith("linux") or _TUNABLE in tunables:
        return
    try:
        granted = "[madvise]" in setting.read_text()
    except OSError:
        return
    if granted:
        os.environ[_VARIABLE] = ":".join(filter(None, [tunables, f"{_TUNABLE}=1"]))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
