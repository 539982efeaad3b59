"""Scores of predicted movements that depend on the day: hit rates over time, and how sure an accuracy is.

Not for accuracy, correlation and calibration themselves (`classification`).
"""

from __future__ import annotations

import numpy as np


def _by_day(predicted: np.ndarray, actual: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits [n] as numbers, the days there are, and the number of the day of each."""
    shapes = [np.shape(one) for one in (predicted, actual, days)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"predictions, labels and days must be lists of one length, not empty, got {shapes}")
    known, day = np.unique(np.asarray(days), return_inverse=True)
    return (np.asarray(predicted) == np.asarray(actual)).astype(np.float64), known, day


def hit_rates(predicted: np.ndarray, actual: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of hits from the first day up to each: the days, ascending, and float64 [days].

    Args:
      predicted, actual: [n].
      days: [n], when each was to be predicted.

    Raises:
      ValueError: for lists of different length, or none.
    """
    hits, known, day = _by_day(predicted, actual, days)
    return known, np.bincount(day, hits).cumsum() / np.bincount(day).cumsum()


def daily_error(predicted: np.ndarray, actual: np.ndarray, days: np.ndarray) -> float:
    """The standard error of the accuracy where tickers move together: of a sum over days, not over predictions.

    Predictions of one day are far from independent, and `sqrt(p (1 - p) / n)` says too little (Cameron and Miller 2015,
    equation 11, on clustered errors). nan of a single day.

    Args:
      predicted, actual: [n].
      days: [n], when each was to be predicted.

    Raises:
      ValueError: for lists of different length, or none.
    """
    hits, known, day = _by_day(predicted, actual, days)
    if len(known) < 2:
        return float("nan")
    sums = np.bincount(day, hits - hits.mean())
    return float(np.sqrt(len(known) / (len(known) - 1) * (sums**2).sum()) / len(hits))
