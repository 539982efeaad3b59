"""What the tests of prices and series share: small ones from a seed."""

from __future__ import annotations

import numpy as np

from jaxformer.data.series.panel import Panel, panel_of_prices
from jaxformer.data.series.price_cleaning import AlignedPrices


def random_prices(days: int, tickers: int, seed: int = 0) -> np.ndarray:
    """float64 [days, tickers, 6] of random walks; the adjusted close is a tenth of the close."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.02 * random.normal(size=(days, tickers)), axis=0))
    opened = close * np.exp(0.01 * random.normal(size=close.shape))
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    return np.stack([opened, high, low, close, close / 10, np.full_like(close, 1000.0)], axis=-1)


def aligned(values: np.ndarray) -> AlignedPrices:
    """The prices on a calendar of consecutive days."""
    dates = np.datetime64("2015-01-01") + np.arange(len(values))
    tickers = tuple(f"T{number}" for number in range(values.shape[1]))
    return AlignedPrices(dates, tickers, values, np.isfinite(values[..., 0]))


def random_panel(days: int = 120, tickers: int = 3, seed: int = 0) -> Panel:
    """The panel of `random_prices`."""
    return panel_of_prices(aligned(random_prices(days, tickers, seed)))
