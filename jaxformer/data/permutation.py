"""A random order of any number of records in no memory: a keyed permutation, computed where it is asked for.

A Feistel network (Luby & Rackoff 1988) over just enough bits, walked until it lands inside the range (Black & Rogaway
2002). Six rounds of a 64-bit mixer are plenty for shuffling thousands of numbers or more; it is no cipher, and for a
handful of numbers a plain shuffle is better.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 6


class Permutation:
    """The permutation of 0 ... size - 1 that belongs to `key`.

    Args:
      size: how many numbers.
      key: non-negative integers, such as a seed and an epoch.
    """

    def __init__(self, size: int, *key: int) -> None:
        self._size = size
        self._half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Where `numbers` (each below `size`) go: int64, of the same shape."""
        result = self._network(numbers.astype(np.uint64))
        outside = np.flatnonzero(result >= self._size)
        while len(outside):
            result[outside] = self._network(result[outside])
            outside = outside[result[outside] >= self._size]
        return result.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return (left << self._half) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), modulo 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
