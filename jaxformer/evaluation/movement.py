"""Scores of yes-or-no predictions, such as whether a price rises: accuracy, Matthews correlation, hit rates, calibration.

Where a weight or label says that something is not scored, leave it out before. Not for models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
    """How often what was predicted with some probability came about.

    Attributes:
      predicted: float64 [bins], the mean probability of the predictions in each bin that has any.
      observed: float64 [bins], the share of them that came about.
      count: int [bins], how many they are.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The mean distance of the two, weighed by counts: the expected calibration error (Guo et al. 2017)."""
        return float((np.abs(self.predicted - self.observed) * self.count).sum() / self.count.sum())


def _checked(predicted: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, actual = np.asarray(predicted), np.asarray(actual)
    if predicted.shape != actual.shape or predicted.ndim != 1:
        raise ValueError(f"predictions {predicted.shape} and labels {actual.shape} must be two lists of one length")
    if not len(actual):
        raise ValueError("there is nothing to score: no prediction has a label that counts")
    return predicted, actual


def accuracy(predicted: np.ndarray, actual: np.ndarray) -> float:
    """The share of `predicted` [n] that equals `actual` [n], between 0 and 1."""
    predicted, actual = _checked(predicted, actual)
    return float((predicted == actual).mean())


def matthews_correlation(predicted: np.ndarray, actual: np.ndarray) -> float:
    """The correlation of two lists of yes and no (Matthews 1975), between -1 and 1; 0 where either is constant.

    Args:
      predicted, actual: [n], true or positive for yes; False, 0 or negative for no.
    """
    predicted, actual = (np.asarray(side) > 0 for side in _checked(predicted, actual))
    both, neither = (float((predicted & actual).sum()), float((~predicted & ~actual).sum()))
    only_predicted, only_actual = float((predicted & ~actual).sum()), float((~predicted & actual).sum())
    sizes = (both + only_predicted) * (both + only_actual) * (neither + only_predicted) * (neither + only_actual)
    return (both * neither - only_predicted * only_actual) / np.sqrt(sizes) if sizes else 0.0


def hit_rates(predicted: np.ndarray, actual: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of hits up to each day: the days, ascending, and float64 [days].

    Args:
      predicted, actual: [n].
      days: [n], when each was to be predicted.
    """
    predicted, actual = _checked(predicted, actual)
    known, day = np.unique(np.asarray(days), return_inverse=True)
    hits = np.bincount(day, predicted == actual, minlength=len(known)).cumsum()
    return known, hits / np.bincount(day, minlength=len(known)).cumsum()


def calibration(probabilities: np.ndarray, actual: np.ndarray, *, bins: int = 10) -> Calibration:
    """Predictions sorted by probability, in bins of equally many.

    Args:
      probabilities: [n], of yes.
      actual: [n], whether it came about.
      bins: at most so many.

    Raises:
      ValueError: for probabilities that are none.
    """
    probabilities, actual = _checked(probabilities, actual)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1")
    parts = np.array_split(np.argsort(probabilities, kind="stable"), min(bins, len(actual)))
    hits = np.asarray(actual, np.float64)
    return Calibration(
        np.array([probabilities[part].mean() for part in parts]),
        np.array([hits[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def daily_error(predicted: np.ndarray, actual: np.ndarray, days: np.ndarray) -> float:
    """The standard error of the accuracy when tickers move together: that of a mean over days, not over predictions.

    Predictions of one day are far from independent, and `sqrt(p (1 - p) / n)` says far too little (Cameron and Miller
    2015, on clustered errors).

    Args:
      predicted, actual: [n].
      days: [n], when each was to be predicted.
    """
    predicted, actual = _checked(predicted, actual)
    _, day = np.unique(np.asarray(days), return_inverse=True)
    hits = (predicted == actual).astype(np.float64)
    number = day.max() + 1
    if number < 2:
        return float("nan")
    sums = np.bincount(day, hits - hits.mean())
    return float(np.sqrt(number / (number - 1) * (sums**2).sum()) / len(hits))
