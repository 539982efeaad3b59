"""From days to data sets: the windows of every split, with statistics of the training period, as records by number.

The last step before batches: `WindowRecords` is what `data.pipeline` plans and reads. Not for reading files.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from jaxformer.data.series.features import HISTORY
from jaxformer.data.series.multivariate import MultivariateSeries
from jaxformer.data.series.panel import Panel
from jaxformer.data.series.splitting import Periods
from jaxformer.data.series.standardize import Standardizer
from jaxformer.data.series.windows import Patching, PriceWindows, SeriesWindows
from jaxformer.types import LabelledBatch, RowLabels, Series


class Windows(Protocol):
    """Windows by number."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, indices: np.ndarray) -> LabelledBatch:
        """Some of them, inputs with labels."""


@dataclasses.dataclass(frozen=True)
class PriceStatistics:
    """What a model of prices has to remember of its training period.

    Attributes:
      features: units of the features.
      returns: units of the returns, in per cent; one channel.
    """

    features: Standardizer
    returns: Standardizer

    @classmethod
    def fit(cls, panel: Panel, periods: Periods, *, tails: float) -> PriceStatistics:
        """The statistics of the days of training; `tails` as of `Standardizer.fit`.

        Raises:
          ValueError: for a period without features.
        """
        rows = slice(*periods["train"])
        if np.isnan(panel.features[rows]).all(axis=(0, 1)).any():
            first, last = periods["train"]
            raise ValueError(
                f"the train period has {last - first} days, too few for features that look back {HISTORY} days, or for "
                "as many days of the market as --config.series.market_days: move --config.series.split"
            )
        return cls(
            Standardizer.fit(panel.features[rows], tails=tails),
            Standardizer.fit(panel.returns[rows, :, None], tails=tails),
        )

    @property
    def return_deviation(self) -> float:
        """Of the returns of the training period, in per cent: the unit of forecast returns."""
        return float(self.returns.deviation[0])

    def windows(self, panel: Panel, *, window: int, days: tuple[int, int], labelled: bool = True) -> PriceWindows:
        """The windows of `panel` with targets in `days`; see `PriceWindows`."""
        return PriceWindows(panel, self.features, self.return_deviation, window=window, days=days, labelled=labelled)


def price_windows(
    panel: Panel, statistics: PriceStatistics, periods: Periods, *, window: int
) -> dict[str, PriceWindows]:
    """The windows of every split.

    Raises:
      ValueError: for a split without a window.
    """
    found = {
        name: statistics.windows(panel, window=window, days=period) for name, period in periods.items()
    }
    for name, windows in found.items():
        if not len(windows):
            first, last = periods[name]
            raise ValueError(
                f"the {name} period has {last - first} days, of which none has a window of {window} days before it: "
                "lower --config.series.window, or move --config.series.split"
            )
    return found


def series_windows(
    series: MultivariateSeries, units: Standardizer, periods: Periods, patching: Patching, *, horizon: int
) -> dict[str, SeriesWindows]:
    """The windows of every split of `series`, in units of its training period: pasts winsorised, targets not.

    Raises:
      ValueError: for a split without a window, or a channel that begins too late.
    """
    values, targets = units.apply(series.values), units.scaled(series.values)
    late = np.isnan(values).any(axis=0)
    if late.any():
        raise ValueError(
            f"channel {series.names[int(late.argmax())]!r} has no value at the beginning of the series: let the series "
            "begin where all channels do, or leave the channel out"
        )
    found = {
        name: SeriesWindows(values, series.observed, patching, horizon=horizon, rows=period, targets=targets)
        for name, period in periods.items()
    }
    for name, windows in found.items():
        if not len(windows):
            first, last = periods[name]
            raise ValueError(
                f"the {name} period has {last - first} rows, too few for {horizon} steps after a past of "
                f"{patching.look_back}: lower --config.series.horizon or .window, or move --config.series.split"
            )
    return found


@dataclasses.dataclass(frozen=True)
class OfRecords:
    """Says of labels that they belong to whole records, as `data.labelled.Labels` does."""

    of_positions: bool = False


class WindowRecords:
    """Windows as records of one length, cut when a batch asks for them.

    Args:
      windows: by number.
      numbers: int [n], of those that are meant; None for all.

    Attributes:
      source_lengths, lengths: int32 [n], positions of each.
      target_lengths: zeros: there is no other side. The planner of pairs wants to know.
      labels: by name, what they belong to.
    """

    def __init__(self, windows: Windows, numbers: np.ndarray | None = None) -> None:
        self.windows = windows
        self.numbers = np.arange(len(windows)) if numbers is None else numbers
        one = windows.batch(np.arange(1))
        self.labels = {name: OfRecords() for name in one.labels}
        self.lengths = self.source_lengths = np.full(len(self.numbers), one.inputs.positions.shape[1], np.int32)
        self.target_lengths = np.zeros(len(self.numbers), np.int32)

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, records: np.ndarray) -> WindowRecords:
        """Some records, in the order given."""
        return WindowRecords(self.windows, self.numbers[records])

    def copy(self, firsts: np.ndarray, counts: np.ndarray) -> WindowRecords:
        """Runs of records, `counts[i]` of them from `firsts[i]` on, one after another."""
        runs = [np.arange(first, first + count) for first, count in zip(firsts, counts, strict=True)]
        return self.take(np.concatenate(runs))

    def release(self) -> None:
        """Does nothing: windows are cut from days that are in memory."""

    def assemble(self, records: np.ndarray, rows: np.ndarray, shape: tuple[int, ...], num_rows: int) -> LabelledBatch:
        """Some records as a batch of `num_rows` rows; rows without a record have weight 0 and no real position.

        Args:
          records: record numbers.
          rows: the row of each, ascending; one record a row.
          shape: of the batch: rows, slots, 0; slots beyond a record are padding.
          num_rows: rows of the batch.
        """
        found = self.windows.batch(self.numbers[records])

        def placed(values: np.ndarray, width: int) -> np.ndarray:
            full = np.zeros((num_rows, width, *values.shape[2:]), values.dtype)
            full[rows, : values.shape[1]] = values
            return full

        assert isinstance(found.inputs, Series)
        parts = (found.inputs.values, found.inputs.positions, found.inputs.segment_ids)
        labels = {
            name: RowLabels(*(placed(x, x.shape[1]) for x in (one.values, one.weights)))
            for name, one in found.labels.items()
        }
        return LabelledBatch(Series(*(placed(x, shape[1]) for x in parts)), labels)

    def checksum(self) -> list[int]:
        """The number of records, and a checksum of the first and last thousand of them."""
        some = np.unique(np.concatenate([np.arange(len(self))[:1000], np.arange(len(self))[-1000:]]))
        batch, found = self.windows.batch(self.numbers[some]), 0
        assert isinstance(batch.inputs, Series)
        for array in (batch.inputs.values, *(one.values for one in batch.labels.values())):
            found = zlib.crc32(np.ascontiguousarray(array).data, found)
        return [len(self), found]


def slices(number: int, size: int) -> Iterator[np.ndarray]:
    """The numbers 0 to `number` - 1 in order, at most `size` at a time."""
    for first in range(0, number, size):
        yield np.arange(first, min(number, first + size))
