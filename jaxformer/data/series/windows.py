"""Windows: what is known up to a day, and what is wanted of the days after it, as labelled batches.

The target of a window lies in one period (training, validation, test) as a whole; its inputs end the day before and may
reach back before the period begins, which is known by then. No input lies on or after the first target. Not for reading
and cleaning, and not for the order in which windows are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxformer.data.series.panel import Panel
from jaxformer.data.series.standardize import Standardizer
from jaxformer.types import LabelledBatch, RowLabels, Series

MOVEMENT, RETURN, FORECAST, BANDS = "movement", "return", "forecast", "bands"
"""Names of labels."""


def _as_series(values: np.ndarray, order: slice = slice(None)) -> Series:
    positions = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32)[order], values.shape[:2])
    return Series(values, positions, np.ones(values.shape[:2], np.int32))


class PriceWindows:
    """One window a ticker and target day t: inputs are the features of days t - S to t - 1.

    Args:
      panel: of all days.
      features: of its training period.
      return_deviation: of the returns of the training period, in per cent: the unit of the labels `return`.
      window: S, in days.
      days: the target days, as row numbers [first, last) of the panel; `len(panel.dates)`, the day after the last, may
        be among them.
      labelled: leave out targets of which neither movement nor return is known; False for predictions.

    Attributes:
      targets: int [windows, 2]: row number of the target day, and of the ticker; ordered by day.
    """

    def __init__(
        self,
        panel: Panel,
        features: Standardizer,
        return_deviation: float,
        *,
        window: int,
        days: tuple[int, int],
        labelled: bool = True,
    ) -> None:
        if window < 1:
            raise ValueError(f"a window must have 1 day or more, got {window}: set --config.series.window")
        self.panel, self.window, self.return_deviation = panel, window, return_deviation
        self._values = features.apply(panel.features)
        known = np.isfinite(self._values).all(axis=-1)
        # whole[t]: all of days t - window to t - 1 are known.
        counts = np.concatenate([np.zeros((1, known.shape[1]), int), known.cumsum(axis=0)])
        whole = np.zeros((len(panel.dates) + 1, known.shape[1]), bool)
        whole[window:] = counts[window:] - counts[:-window] == window
        if labelled:
            whole[:-1] &= (panel.movements != 0) | np.isfinite(panel.returns)
            whole[-1] = False
        first, last = days
        self.targets = np.argwhere(whole[first:last]) + np.array([first, 0])

    def __len__(self) -> int:
        return len(self.targets)

    def as_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The last day of each window's inputs, datetime64[D]."""
        return self.panel.dates[self.targets[indices, 0] - 1]

    def tickers(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The ticker of each window."""
        return [self.panel.tickers[column] for column in self.targets[indices, 1]]

    def movements(self) -> np.ndarray:
        """int8 [windows]: +1, -1 or 0, not scored (or not known)."""
        day, ticker = self.targets.T
        inside = day < len(self.panel.dates)
        return np.where(inside, self.panel.movements[np.where(inside, day, 0), ticker], 0).astype(np.int8)

    def returns(self) -> np.ndarray:
        """float64 [windows], in per cent; nan where it is not known."""
        day, ticker = self.targets.T
        inside = day < len(self.panel.dates)
        return np.where(inside, self.panel.returns[np.where(inside, day, 0), ticker], np.nan)

    def batch(self, indices: Sequence[int] | np.ndarray) -> LabelledBatch:
        """Windows by number: inputs [B, S, C]; labels `movement` (class 1: rise, 0: fall) and `return`, both [B, 1].

        Where a label is not scored or not known its weight is 0. Positions count back from the last day, which is
        position 0, so that pooling by `cls` reads what is encoded there.
        """
        day, ticker = self.targets[np.asarray(indices)].T
        past = day[:, None] + np.arange(-self.window, 0)
        inside = day < len(self.panel.dates)
        row = np.where(inside, day, 0)
        movement = np.where(inside, self.panel.movements[row, ticker], 0)
        returns = np.where(inside, self.panel.returns[row, ticker], np.nan) / self.return_deviation
        known = np.isfinite(returns)
        labels = {
            MOVEMENT: RowLabels((movement > 0).astype(np.int32)[:, None], (movement != 0).astype(np.float32)[:, None]),
            RETURN: RowLabels(
                np.where(known, returns, 0).astype(np.float32)[:, None], known.astype(np.float32)[:, None]
            ),
        }
        return LabelledBatch(_as_series(self._values[past, ticker[:, None]], slice(None, None, -1)), labels)


@dataclasses.dataclass(frozen=True)
class Patching:
    """How the past of a channel is cut into patches (Nie et al. 2023, section 3.1).

    Attributes:
      look_back: steps of the past.
      length: steps in a patch.
      stride: steps between the beginnings of patches; the last step is repeated so often at the end of the past.
    """

    look_back: int
    length: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.look_back, self.length, self.stride) < 1 or self.length > self.look_back:
            raise ValueError(
                f"patches of {self.length} steps, {self.stride} apart, do not fit a past of {self.look_back}: lower "
                "--config.series.patch_length or raise --config.series.window"
            )
        if (self.look_back - self.length) % self.stride:
            rest = (self.look_back - self.length) % self.stride
            raise ValueError(
                f"patches of {self.length} steps, {self.stride} apart, leave {rest} of {self.look_back} steps over: "
                f"set --config.series.window={self.look_back - rest} or {self.look_back - rest + self.stride}"
            )

    @property
    def num_patches(self) -> int:
        """S, patches of a past."""
        return (self.look_back - self.length) // self.stride + 2

    def cut(self, past: np.ndarray) -> np.ndarray:
        """[B, look_back] to overlapping patches [B, S, length]."""
        padded = np.concatenate([past, np.repeat(past[:, -1:], self.stride, axis=1)], axis=1)
        starts = self.stride * np.arange(self.num_patches)
        return padded[:, starts[:, None] + np.arange(self.length)]


class SeriesWindows:
    """One window a channel and starting row: a past of patches, and the T steps after it.

    Args:
      values: float32 [rows, C], standardised, of which pasts are cut; outliers may be winsorised.
      observed: bool [rows, C], false for values that were filled in, which are not scored.
      patching: of the past.
      horizon: T, steps that are wanted.
      rows: the rows [first, last) in which all T targets lie; the past may begin before.
      targets: float32 [rows, C], of which targets are cut; None for `values`.

    Attributes:
      starts: int [windows], the row of the first target of each window.
    """

    def __init__(
        self,
        values: np.ndarray,
        observed: np.ndarray,
        patching: Patching,
        *,
        horizon: int,
        rows: tuple[int, int],
        targets: np.ndarray | None = None,
    ) -> None:
        if horizon < 1:
            raise ValueError(f"a horizon must have 1 step or more, got {horizon}: set --config.series.horizon")
        self.values, self.observed, self.patching, self.horizon = values, observed, patching, horizon
        self.targets = values if targets is None else targets
        first = max(rows[0], patching.look_back)
        self.starts = np.arange(first, max(first, min(rows[1], len(values)) - horizon + 1))

    @property
    def num_channels(self) -> int:
        """C."""
        return self.values.shape[1]

    def __len__(self) -> int:
        return len(self.starts) * self.num_channels

    def _rows(self, indices: Sequence[int] | np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        window, channel = np.divmod(np.asarray(indices), self.num_channels)
        return self.starts[window][:, None] + np.arange(first, last), channel[:, None]

    def past(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The look-back [B, look_back] of windows by number: window w of channel c is number w * C + c."""
        return self.values[self._rows(indices, -self.patching.look_back, 0)]

    def future(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The targets [B, T]."""
        return self.targets[self._rows(indices, 0, self.horizon)]

    def known(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """bool [B, T], which targets are scored."""
        return self.observed[self._rows(indices, 0, self.horizon)]

    def batch(self, indices: Sequence[int] | np.ndarray) -> LabelledBatch:
        """Windows by number: inputs [B, S, length] of patches, labels [B, T], alike for `forecast` and `bands`."""
        labels = RowLabels(self.future(indices), self.known(indices).astype(np.float32))
        return LabelledBatch(_as_series(self.patching.cut(self.past(indices))), {FORECAST: labels, BANDS: labels})
