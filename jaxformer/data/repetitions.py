"""Pairs that occur more than once: hashes of them, in files that may be larger than memory.

Not for what becomes of such pairs (`prepare`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from jaxformer.types import Pair

_SLICE = 1 << 20  # values handled at once


def pair_hash(pair: Pair) -> int:
    """64 bits of a pair: among a hundred million pairs, two different ones agree with a chance of 1 in 3,700."""
    text = f"{pair.source}\0{pair.target}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def first_occurrences(path: Path) -> np.ndarray:
    """For each value in the `.npy` file `path`, whether it has not occurred before it; bool [n].

    Works on one part of the values' range at a time: memory stays at one byte a value and a few dozen MiB.
    """
    values = np.load(path, mmap_mode="r")
    first = np.zeros(len(values), bool)
    parts = max(1, -(-len(values) // _SLICE))
    for part in range(parts):
        where = [
            start + np.flatnonzero(values[start : start + _SLICE] % np.uint64(parts) == part)
            for start in range(0, len(values), _SLICE)
        ]
        indices = np.concatenate(where) if where else np.zeros(0, np.int64)
        first[indices[np.unique(values[indices], return_index=True)[1]]] = True
    return first


def occurring(path: Path, wanted: np.ndarray) -> np.ndarray:
    """For each value of `wanted`, whether the `.npy` file `path` holds it; bool [m]. Reads the file in blocks."""
    values = np.load(path, mmap_mode="r")
    ordered, seen = np.sort(wanted), np.zeros(len(wanted), bool)
    for start in range(0, len(values) if len(wanted) else 0, _SLICE):
        block = values[start : start + _SLICE]
        near = ordered[np.searchsorted(ordered, block).clip(max=len(ordered) - 1)]
        seen |= np.isin(wanted, block[near == block])  # of the whole block, isin would take ten times as long
    return seen
