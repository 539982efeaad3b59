"""Cheap reproducible choices: a long random integer, consumed as mixed-radix digits.

`random.Random` would take longer to seed than a sentence takes to write; one hash gives all the choices of a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of choices that is a pure function of `key`.

    512 bits are about twice what the longest sentence uses; should a derivation ever use them up, further choices are
    the first ones.
    """

    __slots__ = ("_bits",)

    def __init__(self, key: bytes) -> None:
        self._bits = int.from_bytes(hashlib.blake2b(key).digest(), "little")

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        self._bits, digit = divmod(self._bits, n)
        return digit

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        self._bits, digit = divmod(self._bits, len(choices))
        return choices[digit]

    def chance(self, percent: int) -> bool:
        """True in `percent` of a hundred cases."""
        self._bits, digit = divmod(self._bits, 100)
        return digit < percent
