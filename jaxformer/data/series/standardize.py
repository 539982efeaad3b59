"""Numbers in units of the training period: outliers winsorised, mean subtracted, divided by the deviation.

The statistics see training rows alone, so that nothing of a later day is in the inputs of an earlier one. Not for the
units of single windows (`nn.reversible`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Standardizer:
    """The statistics of each channel.

    Attributes:
      mean, deviation: of the winsorised training values, float64 [C]; the deviation of a constant channel is 1.
      low, high: what values are winsorised to, float64 [C]; infinite for none.
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, training: np.ndarray, *, tails: float = 0.0) -> Standardizer:
        """The statistics of training values [*, C]; nan is left out.

        Args:
          training: of the training period alone.
          tails: share of the values at each end that are outliers, and count as the value where this share ends.

        Raises:
          ValueError: for a share that is none, or a channel of which nothing is known.
        """
        if not 0.0 <= tails < 0.5:
            raise ValueError(f"tails must be at least 0 and less than 0.5, got {tails}")
        rows = np.asarray(training, np.float64).reshape(-1, training.shape[-1])
        unknown = np.isnan(rows).all(axis=0)
        if unknown.any():
            raise ValueError(
                f"channel {int(unknown.argmax())} has no value in the training period: leave it out, or let the "
                "training period begin where it is known"
            )
        low, high = np.full(rows.shape[1], -np.inf), np.full(rows.shape[1], np.inf)
        if tails:
            low, high = np.nanquantile(rows, (tails, 1 - tails), axis=0)
        winsorised = np.clip(rows, low, high)
        least = np.nanmin(winsorised, axis=0)
        varies = np.nanmax(winsorised, axis=0) > least  # the deviation of 0.1 again and again is 1e-17, not 0
        mean = np.where(varies, np.nanmean(winsorised, axis=0), least)
        return cls(mean, np.where(varies, np.nanstd(winsorised, axis=0), 1.0), low, high)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values [*, C] winsorised and standardised, float32."""
        return self.scaled(np.clip(values, self.low, self.high))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values [*, C] standardised as they are, outliers too, float32: what a forecast is measured by."""
        return ((values - self.mean) / self.deviation).astype(np.float32)

    def restored(self, values: np.ndarray, channel: int | np.ndarray) -> np.ndarray:
        """Standardised values of one channel, or of one for each, in its own unit again, float64."""
        return np.asarray(values, np.float64) * self.deviation[channel] + self.mean[channel]

    def num_outliers(self, values: np.ndarray, *, channels: int | None = None) -> int:
        """How many of the values [*, C] are winsorised; of the first `channels` alone if it is given."""
        with np.errstate(invalid="ignore"):
            return int(((values < self.low) | (values > self.high))[..., :channels].sum())

    def to_dict(self) -> dict[str, list[float | str]]:
        """What `from_dict` reads, ready for strict JSON: infinities become text."""
        return {
            field.name: [x if np.isfinite(x) else str(x) for x in getattr(self, field.name).tolist()]
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[Any]]) -> Standardizer:
        """The statistics that `to_dict` wrote."""
        return cls(**{name: np.array([float(x) for x in numbers]) for name, numbers in values.items()})
