"""What a trained network has to beat: forecasts that anyone can make, in closed form, with numpy alone.

Not for networks. Every baseline sees the past of a window and no more; those that learn do so from training windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np


def repeat_last(past: np.ndarray, horizon: int) -> np.ndarray:
    """The last step of each past [B, S], `horizon` times: [B, T]."""
    return np.repeat(past[:, -1:], horizon, axis=1)


def repeat_season(past: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The last whole season of each past [B, S], again and again: [B, T].

    Args:
      past: [B, S].
      horizon: T.
      season: steps of a season, such as 24 of hours of a day.

    Raises:
      ValueError: for a season that is longer than the past.
    """
    if not 1 <= season <= past.shape[1]:
        raise ValueError(f"a season of {season} steps does not fit a past of {past.shape[1]}: choose 1 to that many")
    return past[:, past.shape[1] - season + np.arange(horizon) % season]


@dataclasses.dataclass(frozen=True)
class LinearForecast:
    """The next T steps as linear maps of the last S, all channels alike, fitted by least squares.

    Toner and Darlow 2024 ("An analysis of linear time series forecasting models") show that what DLinear and others of
    its kind learn is this; with `relative`, steps are taken relative to the last one of the past.

    Attributes:
      kernel: float64 [S, T].
      bias: float64 [T].
      relative: whether the last step is subtracted, and added again.
    """

    kernel: np.ndarray
    bias: np.ndarray
    relative: bool

    @classmethod
    def fit(
        cls, batches: Iterable[tuple[np.ndarray, np.ndarray]], *, ridge: float = 0.0, relative: bool = False
    ) -> LinearForecast:
        """The map of least squared error.

        Args:
          batches: of pasts [B, S] and futures [B, T] of training windows.
          ridge: added to the diagonal of the normal equations, in squared units of the series.
          relative: see above.

        Raises:
          ValueError: for no windows.
        """
        gram: np.ndarray | None = None
        moment: np.ndarray | None = None
        for past, future in batches:
            past, future = np.asarray(past, np.float64), np.asarray(future, np.float64)
            last = past[:, -1:] if relative else 0.0
            x = np.concatenate([past - last, np.ones((len(past), 1))], axis=1)
            gram = x.T @ x + (0.0 if gram is None else gram)
            moment = x.T @ (future - last) + (0.0 if moment is None else moment)
        if gram is None or moment is None:
            raise ValueError("a linear forecast needs training windows, got none")
        gram[np.arange(len(gram) - 1), np.arange(len(gram) - 1)] += ridge
        found = np.linalg.lstsq(gram, moment, rcond=None)[0]
        return cls(found[:-1], found[-1], relative)

    def __call__(self, past: np.ndarray) -> np.ndarray:
        """The forecast [B, T] of pasts [B, S]."""
        last = past[:, -1:] if self.relative else 0.0
        return (np.asarray(past, np.float64) - last) @ self.kernel + self.bias + last


@dataclasses.dataclass(frozen=True)
class LinearClassifier:
    """Rise or fall by the sign of a linear map of the flattened window, fitted by ridge regression on +1 and -1.

    Attributes:
      weights: float64 [features].
      bias: float64.
    """

    weights: np.ndarray
    bias: float

    @classmethod
    def fit(cls, inputs: np.ndarray, signs: np.ndarray, *, ridge: float) -> LinearClassifier:
        """The map of least squared error, rises and falls counting equally much together.

        Args:
          inputs: [n, ...], of training windows.
          signs: [n], +1 or -1.
          ridge: added to the diagonal of the normal equations.

        Raises:
          ValueError: if a class does not occur.
        """
        rises, falls = int((signs > 0).sum()), int((signs < 0).sum())
        if not rises or not falls:
            raise ValueError(f"the training period has {rises} rises and {falls} falls: both must occur")
        weights = np.where(signs > 0, 0.5 / rises, 0.5 / falls) * len(signs)
        x = np.asarray(inputs, np.float64).reshape(len(signs), -1)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        penalty = np.diag([*np.full(x.shape[1] - 1, ridge), 0.0])
        found = np.linalg.lstsq((x * weights[:, None]).T @ x + penalty, x.T @ (weights * signs), rcond=None)[0]
        return cls(found[:-1], float(found[-1]))

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """A score [n] of windows [n, ...]: a rise where it is above 0."""
        return np.asarray(inputs, np.float64).reshape(len(inputs), -1) @ self.weights + self.bias
