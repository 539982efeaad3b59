"""Long chains cut into overlapping windows, and what was predicted for the windows put together again.

Every residue is owned by the window in whose middle it stands most; it is scored there, and only there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Residues `start` to `stop` of a chain, of which it owns `first` to `last` (all exclusive at the end)."""

    start: int
    stop: int
    first: int
    last: int


def cut(length: int, longest: int) -> list[Window]:
    """Windows over a chain of `length` residues, none longer than `longest`; neighbours share a quarter or more.

    Windows are of equal length, so that none has less to see than the others; a chain that fits is one window.

    Raises:
      ValueError: if `longest` is less than 4, which leaves nothing to share.
    """
    if length <= longest:
        return [Window(0, length, 0, length)]
    if longest < 4:
        raise ValueError(f"windows of {longest} residues cannot overlap by a quarter: use 4 or more")
    shared = longest // 4
    count = -(-(length - shared) // (longest - shared))
    starts = [round(i * (length - longest) / (count - 1)) for i in range(count)]
    # A border lies in the middle of what two neighbours share.
    borders = [0, *((start + before + longest) // 2 for before, start in itertools.pairwise(starts)), length]
    owned = itertools.pairwise(borders)
    return [Window(start, start + longest, *own) for start, own in zip(starts, owned, strict=True)]


def put_together(windows: Iterable[Window], parts: Iterable[np.ndarray]) -> np.ndarray:
    """[S, ...] of a whole chain from [S', ...] of its windows, each residue from the window that owns it."""
    return np.concatenate(
        [part[window.first - window.start : window.last - window.start]
         for window, part in zip(windows, parts, strict=True)]
    )  # fmt: skip
