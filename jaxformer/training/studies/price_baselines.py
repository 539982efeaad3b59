"""What a network has to beat where prices are predicted: what anyone can say of the next day, and linear maps.

Not for the network's own scores (`price_movement`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxformer.data.series.windows import PriceWindows
from jaxformer.evaluation import classification, forecasting
from jaxformer.evaluation.baselines import LinearClassifier, LinearForecast

RIDGE = 1000.0
"""Of the linear maps: a little shrinkage, with tens of thousands of windows and features of unit variance."""

_NUM_CLASSES = 2


def price_baselines(train: PriceWindows, splits: Mapping[str, PriceWindows]) -> dict[str, dict[str, float]]:
    """Always rise (and the mean return of training), as the day before, and ridge regression on the window.

    Returns:
      Rival -> `test/accuracy` -> value, of the movements that are scored; errors of all known returns, in per cent.
    """
    movement, change = _linear_movement(train), _linear_return(train)
    mean = float(np.nanmean(train.returns()))
    found: dict[str, dict[str, float]] = {"always rise": {}, "as the day before": {}, "linear": {}}
    for name, windows in splits.items():
        scored, known = np.flatnonzero(windows.movements()), np.flatnonzero(np.isfinite(windows.returns()))
        rises = {
            "always rise": np.ones(len(scored), bool),
            "as the day before": _day_before(windows, scored, 0.0) > 0,
            "linear": movement(_inputs(windows, scored)) > 0,
        }
        changes = {
            "always rise": np.full(len(known), mean),
            "as the day before": _day_before(windows, known, mean),
            "linear": change(_flat(windows, known))[:, 0],
        }
        labels, returns = windows.movements()[scored] > 0, windows.returns()[known]
        for rival, numbers in found.items():
            scores = _movement_scores(labels, rises[rival]) | _return_errors(changes[rival], returns)
            numbers |= {f"{name}/{metric}": value for metric, value in scores.items()}
    return found


def _linear_movement(train: PriceWindows) -> LinearClassifier:
    scored = np.flatnonzero(train.movements())
    return LinearClassifier.fit(_inputs(train, scored), train.movements()[scored].astype(float), ridge=RIDGE)


def _linear_return(train: PriceWindows) -> LinearForecast:
    known = np.flatnonzero(np.isfinite(train.returns()))
    return LinearForecast.fit([(_flat(train, known), train.returns()[known, None])], ridge=RIDGE)


def _day_before(windows: PriceWindows, numbers: np.ndarray, unknown: float) -> np.ndarray:
    """float64 [n], the returns of the last days of windows; `unknown` in place of those that are not known."""
    day, ticker = windows.targets[numbers].T
    returns = windows.panel.returns[day - 1, ticker]
    return np.where(np.isfinite(returns), returns, unknown)


def _movement_scores(labels: np.ndarray, guesses: np.ndarray) -> dict[str, float]:
    confusion = classification.confusion_matrix(labels.astype(int), guesses.astype(int), _NUM_CLASSES)
    return {
        "accuracy": classification.accuracy(confusion),
        "macro_f1": float(classification.class_scores(confusion).f1.mean()),
        "mcc": classification.matthews_correlation(confusion),
    }


def _return_errors(guesses: np.ndarray, returns: np.ndarray) -> dict[str, float]:
    if not len(returns):
        return {}
    return {
        "return_mse": forecasting.mean_squared_error(guesses, returns),
        "return_mae": forecasting.mean_absolute_error(guesses, returns),
    }


def _inputs(windows: PriceWindows, numbers: np.ndarray) -> np.ndarray:
    """The standardised inputs of windows, [n, S, C]."""
    inputs: Any = windows.batch(numbers).inputs
    return inputs.values


def _flat(windows: PriceWindows, numbers: np.ndarray) -> np.ndarray:
    """The same, [n, S x C]."""
    return _inputs(windows, numbers).reshape(len(numbers), -1)
