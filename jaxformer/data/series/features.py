"""What a day says about a price, and what is wanted of it: the 11 features and the labels of Feng et al. 2019.

Feng, Chen, He, Ding, Sun and Chua: "Enhancing Stock Movement Prediction with Adversarial Training", table 1 (features)
and section 4.1 (labels, after Xu and Cohen 2018). Every feature is a ratio of prices up to its own day, so that neither
the currency nor a split elsewhere in time matters. Not for standardising (`standardize`).
"""

from __future__ import annotations

import numpy as np

from jaxformer.data.series.prices import ADJ_CLOSE, CLOSE, HIGH, LOW, OPEN

AVERAGES = (5, 10, 15, 20, 25, 30)
"""Days of the moving averages."""
NAMES = ("open", "high", "low", "close", "adj_close", *(f"average_{days}" for days in AVERAGES))
"""Of the 11 features, in order."""
HISTORY = max(AVERAGES)
"""Days that the first features need."""
RISE, FALL = 0.55, -0.5
"""Returns in per cent from which on a day is a rise (+1), and up to which a fall (-1); those between are not scored."""


def day_features(values: np.ndarray) -> np.ndarray:
    """The 11 features of every day, in per cent.

    Open, high and low against the close of the day; the close and the adjusted close against those of the day before;
    means of the adjusted close over 5 to 30 days against that of the day.

    Args:
      values: float64 [days, tickers, 6], the columns of `prices`.

    Returns:
      float32 [days, tickers, 11]; nan where the days before are not known.
    """
    close, adjusted = values[..., CLOSE], values[..., ADJ_CLOSE]
    found = np.full((*values.shape[:2], len(NAMES)), np.nan)
    for feature, column in enumerate((OPEN, HIGH, LOW)):
        found[..., feature] = values[..., column] / close - 1
    found[1:, :, 3] = close[1:] / close[:-1] - 1
    found[1:, :, 4] = adjusted[1:] / adjusted[:-1] - 1
    for feature, days in enumerate(AVERAGES, 5):
        if len(values) >= days:
            windows = np.lib.stride_tricks.sliding_window_view(adjusted, days, axis=0)
            found[days - 1 :, :, feature] = windows.mean(axis=-1) / adjusted[days - 1 :] - 1
    return (100 * found).astype(np.float32)


def day_returns(adjusted: np.ndarray) -> np.ndarray:
    """The return of each day in per cent of the day before, float64 [days, tickers]; nan on the first.

    Args:
      adjusted: adjusted close [days, tickers].
    """
    returns = np.full(adjusted.shape, np.nan)
    returns[1:] = 100 * (adjusted[1:] / adjusted[:-1] - 1)
    return returns


def movements(returns: np.ndarray, *, rise: float = RISE, fall: float = FALL) -> np.ndarray:
    """+1 for returns of at least `rise`, -1 for returns of at most `fall`, 0 between and where nothing is known.

    Args:
      returns: in per cent, of any shape.
      rise, fall: in per cent.

    Raises:
      ValueError: for a rise that is not above the fall.
    """
    if not rise > fall:
        raise ValueError(f"a rise must begin above a fall, got rise={rise} and fall={fall} per cent")
    with np.errstate(invalid="ignore"):
        return (returns >= rise).astype(np.int8) - (returns <= fall).astype(np.int8)
