"""Scores of forecast numbers and quantiles: MSE, MAE, pinball loss, coverage; and means over seeds.

All of them are plain means over what is scored. Not for models, and not for units: numbers come in those of the paper
that they are compared with (benchmarks of forecasting take standardised ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean over several runs.

    Attributes:
      mean: of the runs.
      error: its standard error: the deviation of the runs (with n - 1) over the root of their number; nan of one run.
      number: n, how many runs.
    """

    mean: float
    error: float
    number: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} +- {self.error:.4f} (n={self.number})"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of a score over seeds, with its standard error.

    Raises:
      ValueError: for no values.
    """
    if not len(values):
        raise ValueError("there is no score to take the mean of")
    found = np.asarray(values, np.float64)
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")
    return Estimate(float(found.mean()), error, len(found))


def _errors(forecast: np.ndarray, actual: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Differences in float64, and the weight of each."""
    if np.shape(forecast) != np.shape(actual) or (weights is not None and np.shape(weights) != np.shape(actual)):
        shapes = ", ".join(str(np.shape(x)) for x in (forecast, actual, weights) if x is not None)
        raise ValueError(f"forecasts, numbers and weights must have one shape, got {shapes}")
    counted = np.ones(np.shape(actual)) if weights is None else np.asarray(weights, np.float64)
    if not counted.sum() > 0:
        raise ValueError("there is nothing to score: every weight is 0")
    difference = np.asarray(actual, np.float64) - np.asarray(forecast, np.float64)
    return np.where(counted > 0, difference, 0.0), counted


def mean_squared_error(forecast: np.ndarray, actual: np.ndarray, weights: np.ndarray | None = None) -> float:
    """MSE of arrays of one shape; `weights` 0 leaves out."""
    errors, counted = _errors(forecast, actual, weights)
    return float((counted * errors**2).sum() / counted.sum())


def mean_absolute_error(forecast: np.ndarray, actual: np.ndarray, weights: np.ndarray | None = None) -> float:
    """MAE of arrays of one shape; `weights` 0 leaves out."""
    errors, counted = _errors(forecast, actual, weights)
    return float((counted * np.abs(errors)).sum() / counted.sum())


def pinball_loss(
    forecast: np.ndarray, actual: np.ndarray, level: float, weights: np.ndarray | None = None
) -> float:
    """The loss whose minimum is the quantile `level` (Koenker and Bassett 1978), of arrays of one shape.

    Raises:
      ValueError: for a level that is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level of a quantile must be between 0 and 1, got {level}")
    errors, counted = _errors(forecast, actual, weights)
    return float((counted * np.maximum(level * errors, (level - 1) * errors)).sum() / counted.sum())


def coverage(low: np.ndarray, high: np.ndarray, actual: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The share of numbers that lie in the band from `low` to `high`, ends included; arrays of one shape."""
    above, counted = _errors(low, actual, weights)
    below, _ = _errors(high, actual, weights)
    return float((counted * ((above >= 0) & (below <= 0))).sum() / counted.sum())
