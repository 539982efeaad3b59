"""How words are spelt, as numbers: a word that no vocabulary has is still known by its parts.

Hashed n-grams of characters (Bojanowski et al. 2017, section 3.2), whose vectors the network adds to that of the word.
Not for vocabularies (`tokenizer`).
"""

from __future__ import annotations

import zlib

import numpy as np

from jaxformer.types import PAD_ID, SPELLING_SIZE

_LENGTHS = (3, 4, 5)
"""Of n-grams, in characters; Bojanowski et al. have 6 as well."""


class Spelling:
    """The n-grams of words, each as the number of a bucket.

    Of a word with more than SPELLING_SIZE of them, those of the lowest numbers are kept, so that two words keep the
    same ones of those that they share. High buckets are thus used less than low ones (by SST-2's words the last tenth
    an eighth as often as the first); where all were used alike, held-back sentences were read worse.

    Args:
      first: number of the first bucket: the size of the vocabulary, whose ids come before.
      buckets: how many there are; n-grams that share one cannot be told apart.
    """

    def __init__(self, first: int, buckets: int) -> None:
        self._first, self._buckets = first, buckets
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, word: str) -> np.ndarray:
        """int32 [SPELLING_SIZE], ascending, then zeros."""
        if word not in self._known:
            self._known[word] = self._spelt(word)
        return self._known[word]

    def _spelt(self, word: str) -> np.ndarray:
        marked = f"<{word}>"
        grams = {marked[i : i + n] for n in _LENGTHS for i in range(len(marked) - n + 1)}
        numbers = sorted({self._first + zlib.crc32(gram.encode()) % self._buckets for gram in grams})[:SPELLING_SIZE]
        found = np.full(SPELLING_SIZE, PAD_ID, np.int32)
        found[: len(numbers)] = numbers
        return found
