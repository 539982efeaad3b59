"""Naive Bayes over a window of tokens: the simple model beside which a network that tags sequences is judged.

The tokens of a window are taken as independent, given the class of the one in its middle. For proteins with a window of
17 this is close to the first methods that predicted structure from sequence (Garnier et al. 1978). No network, no
gradient: it counts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxformer.types import PAD_ID


class WindowBayes:
    """Counts of tokens by class and by distance from the middle.

    Args:
      num_classes: E.
      vocabulary_size: V; `PAD_ID` stands for what is beyond the ends.
      window: odd, how many tokens are looked at; 1 for the token itself.

    Raises:
      ValueError: for an even window.
    """

    def __init__(self, num_classes: int, vocabulary_size: int, window: int = 17) -> None:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window must be odd and greater than 0, to have a middle; got {window}")
        self.window = window
        # One of everything to begin with (Laplace), so that what was not seen is not impossible.
        self._counts = np.ones((window, vocabulary_size, num_classes))
        self._classes = np.zeros(num_classes)

    def fit(self, sequences: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> WindowBayes:
        """Counts (tokens int [S], classes int [S], scored bool [S]) of each sequence; returns itself."""
        size = len(self._classes)
        for tokens, classes, scored in sequences:
            windows, labels = self._windows(tokens)[scored], classes[scored].astype(np.int64)
            self._classes += np.bincount(labels, minlength=size)
            for place in range(self.window):
                pairs = windows[:, place].astype(np.int64) * size + labels
                self._counts[place] += np.bincount(pairs, minlength=self._counts[place].size).reshape(-1, size)
        return self

    def predict(self, tokens: np.ndarray) -> np.ndarray:
        """int64 [S], the likeliest class of each token of [S].

        Raises:
          ValueError: if nothing was counted.
        """
        if not self._classes.any():
            raise ValueError("nothing was counted: call `fit` first, with at least one token that is scored")
        with np.errstate(divide="ignore"):  # a class that never occurs is never predicted
            scores = np.log(self._classes) + np.zeros((len(tokens), 1))
        logs = np.log(self._counts / self._counts.sum(axis=1, keepdims=True))
        for place, column in enumerate(self._windows(tokens).T):
            scores += logs[place, column]
        return scores.argmax(axis=1)

    def _windows(self, tokens: np.ndarray) -> np.ndarray:
        """[S, window], the surroundings of each token."""
        padded = np.pad(tokens, self.window // 2, constant_values=PAD_ID)
        return np.lib.stride_tricks.sliding_window_view(padded, self.window)
