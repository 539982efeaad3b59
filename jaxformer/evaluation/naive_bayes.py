"""Multinomial naive Bayes over words (McCallum and Nigam 1998): the baseline that a text classifier has to beat.

Not a model of the library: it has no parameters to train by gradients, and is here to be printed beside one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and single marks, in lower case."""
    return _WORD.findall(text.lower())


class NaiveBayes:
    """Counts words by class, and classifies by the product of their probabilities.

    Args:
      texts: of the training data.
      labels: the class of each, from 0.
      num_classes: E.
      smoothing: added to every count (Laplace).
    """

    def __init__(
        self, texts: Iterable[str], labels: Sequence[int], num_classes: int, *, smoothing: float = 1.0
    ) -> None:
        counts = [Counter[str]() for _ in range(num_classes)]
        prior = np.zeros(num_classes)
        for text, label in zip(texts, labels, strict=True):
            counts[label].update(words(text))
            prior[label] += 1
        vocabulary = sorted(set().union(*counts))
        self._index = {word: place for place, word in enumerate(vocabulary)}
        table = np.array([[one[word] for word in vocabulary] for one in counts], np.float64).reshape(num_classes, -1)
        table += smoothing
        self._log = np.log(table) - np.log(table.sum(axis=1, keepdims=True))
        self._prior = np.log(np.maximum(prior, 1e-300)) - np.log(prior.sum())

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """float64 [n, E]: log-probabilities up to a constant of each text; words never seen count for nothing."""
        found = np.tile(self._prior, (len(texts), 1))
        for row, text in zip(found, texts, strict=True):
            places = [self._index[word] for word in words(text) if word in self._index]
            row += self._log[:, places].sum(axis=1)
        return found

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """int64 [n]: the class of each text."""
        return self.log_odds(texts).argmax(axis=1)
