"""Cleaning of daily prices, every rule counted: order, repetitions, gaps, splits, prices that can not be.

Nothing here looks ahead: what is done to a day depends on that day and those before it, and prices after a split are
carried on in the units of before, so that the past stays as it was. Three exceptions choose data instead of changing
it: tickers with too short a history are left out, the calendar is that of all files, and a day without a row is filled
in if a later row follows, for which reason such a day has no features (`panel`). Outliers are the standardisation's
part (`standardize`), which knows the training period.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxformer.data.series.prices import ADJ_CLOSE, CLOSE, COLUMNS, PRICES, VOLUME, PriceHistory

SPLIT_JUMP = 0.2
"""A day on which adjusted / plain close changes by more than this share is a split; dividends change it by less."""

_DROPPED = {
    "duplicates": "a date that the ticker already had (the first row counts)",
    "missing_cells": "an empty cell",
    "not_positive": "a price that is zero or negative, or a negative volume",
    "short_rows": "of tickers with too little history",
}


@dataclasses.dataclass
class PriceReport:
    """How many rows, one a ticker and day, were read, dropped by each rule, put in order and filled in.

    Attributes:
      read: rows read.
      duplicates, missing_cells, not_positive, short_rows: rows dropped, each under the first rule that it broke.
      disordered: rows whose date was before that of the row above it; they were sorted.
      splits: days on which a ticker was split; its later prices are carried on in the units of before.
      missing_days: days on which others traded and the ticker, between its first and last day, has no row: the last
        known price stands there, no window holds this day, and neither it nor the next is scored.
      tickers: tickers read.
      short_tickers: of them, those left out because their history is too short.
    """

    read: int = 0
    duplicates: int = 0
    missing_cells: int = 0
    not_positive: int = 0
    short_rows: int = 0
    disordered: int = 0
    splits: int = 0
    missing_days: int = 0
    tickers: int = 0
    short_tickers: int = 0

    @property
    def kept(self) -> int:
        """Rows that broke no rule."""
        return self.read - sum(getattr(self, rule) for rule in _DROPPED)

    @property
    def changes(self) -> int:
        """Rows dropped, sorted or filled in, and days of a split."""
        return self.read - self.kept + self.disordered + self.splits + self.missing_days

    def table(self) -> str:
        """The report as plain text, one rule a line."""
        rows = [("rows read", self.read)]
        rows += [(f"dropped: {label}", getattr(self, rule)) for rule, label in _DROPPED.items()]
        rows += [
            ("rows kept", self.kept),
            ("sorted: a date before that of the row above", self.disordered),
            ("adjusted: days of a split", self.splits),
            ("filled in: days without a row (not scored)", self.missing_days),
            ("tickers read", self.tickers),
            ("tickers left out: too little history", self.short_tickers),
        ]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {count:>9,}" for label, count in rows)


@dataclasses.dataclass(frozen=True)
class AlignedPrices:
    """Prices of several tickers on one calendar.

    Attributes:
      dates: datetime64[D] [days], ascending: the days on which any ticker has a row, one that was left out too.
      tickers: their names.
      values: float64 [days, tickers, 6], the columns of `prices`; nan before a ticker's first and after its last day.
      observed: bool [days, tickers], whether there was a row, and not a price carried on.
    """

    dates: np.ndarray
    tickers: tuple[str, ...]
    values: np.ndarray
    observed: np.ndarray


def clean_prices(histories: Mapping[str, PriceHistory], *, min_days: int) -> tuple[AlignedPrices, PriceReport]:
    """The days of all tickers that break no rule, on one calendar, and how many broke which.

    Args:
      histories: as `read_prices` gives them.
      min_days: rows that a ticker needs; those with fewer are left out.

    Raises:
      ValueError: if no ticker is left.
    """
    report = PriceReport(tickers=len(histories))
    kept, days = {}, []
    for ticker, history in histories.items():
        clean = _clean_rows(history, report)
        days.append(clean.dates)
        if len(clean) < min_days:
            report.short_tickers += 1
            report.short_rows += len(clean)
        else:
            kept[ticker] = _unsplit(clean, report)
    if not kept:
        longest = max((len(history) for history in histories.values()), default=0)
        raise ValueError(
            f"none of {len(histories)} tickers has the {min_days} days that one window and its features need (the "
            f"longest has {longest} rows): give more history, or lower --config.series.window"
        )
    # The days of short histories too: without them, a calendar would tell which tickers go on being traded.
    return _aligned(kept, np.unique(np.concatenate(days)), report), report


def _clean_rows(history: PriceHistory, report: PriceReport) -> PriceHistory:
    """The rows in order, one a day, complete and positive."""
    report.read += len(history)
    report.disordered += int((np.diff(history.dates) < np.timedelta64(0)).sum())
    order = np.argsort(history.dates, kind="stable")
    dates, values = history.dates[order], history.values[order]
    first = np.concatenate([[True], np.diff(dates) > np.timedelta64(0)])[: len(dates)]
    complete = ~np.isnan(values).any(axis=1)
    with np.errstate(invalid="ignore"):
        possible = (values[:, PRICES] > 0).all(axis=1) & (values[:, VOLUME] >= 0)
    report.duplicates += int((~first).sum())
    report.missing_cells += int((first & ~complete).sum())
    report.not_positive += int((first & complete & ~possible).sum())
    kept = first & complete & possible
    return PriceHistory(dates[kept], values[kept])


def _unsplit(history: PriceHistory, report: PriceReport) -> PriceHistory:
    """Prices and volume after every split in the units of before; the adjusted close already is without splits."""
    values = history.values.copy()
    ratio = values[:, ADJ_CLOSE] / values[:, CLOSE]
    jump = ratio[1:] / ratio[:-1]
    split = np.abs(np.log(jump)) > np.log1p(SPLIT_JUMP)
    report.splits += int(split.sum())
    units = np.concatenate([[1.0], np.cumprod(np.where(split, jump, 1.0))])
    values[:, : CLOSE + 1] *= units[:, None]
    values[:, VOLUME] /= units
    return PriceHistory(history.dates, values)


def _aligned(histories: Mapping[str, PriceHistory], dates: np.ndarray, report: PriceReport) -> AlignedPrices:
    values = np.full((len(dates), len(histories), len(COLUMNS)), np.nan)
    observed = np.zeros(values.shape[:2], bool)
    for column, history in enumerate(histories.values()):
        places = np.searchsorted(dates, history.dates)
        observed[places, column] = True
        span = np.arange(places[0], places[-1] + 1)
        last_known = np.searchsorted(places, span, side="right") - 1
        values[span, column] = history.values[last_known]
        report.missing_days += len(span) - len(places)
    filled = ~observed & ~np.isnan(values[..., CLOSE])
    values[filled, :CLOSE] = values[filled, CLOSE, None]  # the price stood still, and nothing was traded
    values[filled, VOLUME] = 0.0
    return AlignedPrices(dates, tuple(histories), values, observed)
