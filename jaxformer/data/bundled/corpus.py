"""Random access to the bundled corpus, its splits and its size.

Record i is a pure function of (seed, split, i): nothing is stored, so a corpus of any length costs nothing until it is
read. Splits are disjoint on both sides: the split of a sentence is decided by a hash of its English text, and since the
grammar translates one-to-one (a test holds that), no English or German sentence can occur in two splits.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import overload

from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.sentences import sentence
from jaxformer.types import Pair

DEFAULT_SIZES = {"train": 60_000, "validation": 1_000, "test": 1_000}
_SHARES = 32
# Of every 32 sentences one belongs to validation and one to test.
_REMAINDERS = {"validation": frozenset({0}), "test": frozenset({1}), "train": frozenset(range(2, _SHARES))}


class BundledCorpus(Sequence[Pair]):
    """English-German pairs of one split, as a random-access sequence.

    A corpus is a bag of draws: about one sentence in a hundred repeats at the default size.
    """

    def __init__(self, split: str, num_examples: int = 0, seed: int = 0) -> None:
        """Makes the corpus; sentences are written when they are asked for.

        Args:
          split: `train`, `validation` or `test`.
          num_examples: number of pairs; 0 for the default (60,000 for training, 1,000 for the others).
          seed: another seed gives another corpus, with the same sentences held out for validation and test.

        Raises:
          ValueError: for an unknown split or a negative size.
        """
        if split not in DEFAULT_SIZES:
            raise ValueError(f"the bundled corpus has no split {split!r}: choose one of {', '.join(DEFAULT_SIZES)}")
        if num_examples < 0:
            raise ValueError(f"num_examples must be 0 (the default size) or greater, got {num_examples}")
        self.split, self.seed = split, seed
        self._size = num_examples or DEFAULT_SIZES[split]

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self._write(i) for i in range(*index.indices(self._size))]
        position = index + self._size if index < 0 else index
        if not 0 <= position < self._size:
            raise IndexError(f"record {index} of a corpus of {self._size}")
        return self._write(position)

    def __iter__(self) -> Iterator[Pair]:
        return map(self._write, range(self._size))

    def __repr__(self) -> str:
        return f"BundledCorpus(split={self.split!r}, num_examples={self._size}, seed={self.seed})"

    def _write(self, index: int) -> Pair:
        """Draws sentences, with a new key each time, until one belongs to this split."""
        remainders, attempt = _REMAINDERS[self.split], 0
        while True:
            english, german = sentence(Draw(b"%d %d %d %s" % (index, attempt, self.seed, self.split.encode())))
            if zlib.crc32(english.encode()) % _SHARES in remainders:
                return Pair(english, german)
            attempt += 1
