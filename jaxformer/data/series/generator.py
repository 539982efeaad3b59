"""Prices and series made from a seed, so that every command runs with nothing at hand.

They obey a law that is written down here, so that what a model learnt can be compared with what there was to learn.
They are not like any market: real prices have far less that can be foreseen. Not for the data of experiments that claim
something about the world.
"""

from __future__ import annotations

import numpy as np

from jaxformer.data.series.multivariate import MultivariateSeries
from jaxformer.data.series.prices import PriceHistory

REVERSION = -0.35
"""How much of a day's own return is taken back on the next day: what there is to learn in the prices."""


def generated_prices(*, num_tickers: int = 20, num_days: int = 1500, seed: int = 0) -> dict[str, PriceHistory]:
    """Daily prices whose own movements tend to be taken back, in calm and stormy times.

    The return of ticker i on day t is b_i m_t + r_it, in per cent: m_t, of the market, is drawn anew every day; r_it =
    `REVERSION` r_i(t-1) + e_it. Both draws have a deviation that is itself autocorrelated (volatility comes in
    clusters: Bollerslev 1986, an order (1, 1) GARCH process). Days are Mondays to Fridays from 2010 on; one ticker in
    ten is split two for one in the middle; no dividends.

    Args:
      num_tickers, num_days: how many.
      seed: another seed gives other prices of the same law.

    Raises:
      ValueError: for fewer than one ticker or two days.
    """
    if num_tickers < 1 or num_days < 2:
        raise ValueError(f"{num_tickers} tickers of {num_days} days are too few: 1 and 2 are the least")
    random = np.random.default_rng((seed, 1))
    market = 0.8 * _clustered(random, (num_days, 1))
    own = 1.2 * _clustered(random, (num_days, num_tickers))
    for day in range(1, num_days):
        own[day] += REVERSION * own[day - 1]
    returns = 0.01 * (0.02 + random.uniform(0.5, 1.5, num_tickers) * market + own)
    close = random.uniform(20, 200, num_tickers) * np.exp(np.cumsum(returns, axis=0))
    spread = 0.004 * np.abs(random.normal(size=(3, num_days, num_tickers)))
    opened = close * np.exp(-returns * random.uniform(0.6, 1.0, close.shape))
    high = np.maximum(opened, close) * (1 + spread[0])
    low = np.minimum(opened, close) * (1 - spread[1])
    volume = np.round(1e6 * np.exp(0.3 * random.normal(size=close.shape) + 30 * np.abs(returns)))
    weekdays = np.busday_offset("2010-01-04", np.arange(num_days), roll="forward").astype("datetime64[D]")
    histories = {}
    for ticker in range(num_tickers):
        units = np.where((np.arange(num_days) >= num_days // 2) & (ticker % 10 == 9), 0.5, 1.0)
        plain = [side[:, ticker] * units for side in (opened, high, low, close)]
        adjusted = close[:, ticker] * units[-1]
        values = np.stack([*plain, adjusted, volume[:, ticker] / units], axis=1)
        histories[f"T{ticker:02d}"] = PriceHistory(weekdays, values)
    return histories


def _clustered(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws of variance 1 on average, whose variance depends on that of the day before: 0.1 + 0.15 e**2 + 0.75 v."""
    normal = random.normal(size=shape)
    variance = np.ones(shape[1])
    for day in range(shape[0]):
        normal[day] *= np.sqrt(variance)
        variance = 0.1 + 0.15 * normal[day] ** 2 + 0.75 * variance
    return normal


def generated_series(*, num_channels: int = 4, num_rows: int = 4000, seed: int = 0) -> MultivariateSeries:
    """Hourly channels with a daily and a weekly season, a level that wanders, and noise that lasts for some hours.

    A longer series begins as a shorter one of the same seed.

    Args:
      num_channels, num_rows: how many.
      seed: another seed gives another series of the same law.

    Raises:
      ValueError: for fewer than one channel or two rows.
    """
    if num_channels < 1 or num_rows < 2:
        raise ValueError(f"{num_channels} channels of {num_rows} rows are too few: 1 and 2 are the least")
    random = np.random.default_rng((seed, 2))
    hours = np.arange(num_rows)[:, None]
    daily, weekly = (
        size * np.sin(2 * np.pi * (hours / period + random.uniform(size=num_channels)))
        for size, period in ((1.0, 24), (0.5, 168))
    )
    zero, unit = random.uniform(-20, 20, num_channels), random.uniform(1, 10, num_channels)
    draws = random.normal(size=(num_rows, 2, num_channels))
    level, noise = 0.02 * np.cumsum(draws[:, 0], axis=0), 0.25 * draws[:, 1]
    for hour in range(1, num_rows):
        noise[hour] += 0.6 * noise[hour - 1]
    values = zero + unit * (daily + weekly + level + noise)
    dates = np.datetime64("2020-01-01T00:00:00", "s") + np.timedelta64(3600, "s") * np.arange(num_rows)
    names = tuple(f"channel_{number}" for number in range(num_channels))
    return MultivariateSeries(dates, names, values, np.ones(values.shape, bool))
