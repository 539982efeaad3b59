"""Pictures of prices and series: forecasts with bands beside what came, and hit rates over time.

Not for learning curves (`report`) nor for confusion and calibration (`pictures`); needs no display.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxformer.monitoring.pictures import new_figure, save_figure


class Forecast(NamedTuple):
    """One channel from one moment on, in the units of the series.

    Attributes:
      name: of the channel.
      past: [S], what was known.
      actual: [T], what came.
      forecast: [T].
      bands: [T, Q], quantiles, ascending.
    """

    name: str
    past: np.ndarray
    actual: np.ndarray
    forecast: np.ndarray
    bands: np.ndarray


def draw_forecasts(
    forecasts: Sequence[Forecast], path: str | os.PathLike[str], *, title: str = "", levels: Sequence[float]
) -> None:
    """Draws a panel a channel as a PNG: past, what came, the forecast, and the band of its outer quantiles.

    Args:
      forecasts: at least one.
      path: of the picture.
      title: above it.
      levels: of the quantiles.

    Raises:
      DiskError: if it cannot be written.
    """
    figure = new_figure(9.0, 2.4 * len(forecasts) + 0.6)
    panels = figure.subplots(len(forecasts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, one in zip(panels, forecasts, strict=True):
        before, after = np.arange(-len(one.past), 0), np.arange(len(one.actual))
        axes.fill_between(
            after, one.bands[:, 0], one.bands[:, -1], color="#DD8452", alpha=0.25, linewidth=0,
            label=f"{levels[0]:.0%} to {levels[-1]:.0%}",
        )  # fmt: skip
        axes.plot(before, one.past, color="#555555", linewidth=1, label="past")
        axes.plot(after, one.actual, color="#4C72B0", linewidth=1.2, label="what came")
        axes.plot(after, one.forecast, color="#DD8452", linewidth=1.2, label="forecast")
        axes.axvline(-0.5, color="gray", linewidth=0.8, linestyle=":")
        axes.set_ylabel(one.name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, ncols=4, fontsize=8, loc="upper left")
    panels[0].set_title(title)
    panels[-1].set_xlabel("steps from the first that is forecast")
    save_figure(figure, path)


def draw_hit_rates(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    path: str | os.PathLike[str],
    *,
    error: float,
    title: str = "",
) -> None:
    """Draws the share of hits from the first day up to each as a PNG.

    Args:
      curves: by name of who predicts, days and shares; the first is the model's.
      path: of the picture.
      error: the standard error of the model's share at the end, drawn on both sides of it, twice.
      title: above it.

    Raises:
      DiskError: if it cannot be written.
    """
    figure = new_figure(7.0, 3.8)
    axes = figure.subplots()
    for number, (name, (days, shares)) in enumerate(curves.items()):
        color = ("#4C72B0", "#8C8C8C", "#55A868")[number % 3]
        axes.plot(days, shares, color=color, linewidth=1.3, label=f"{name} {shares[-1]:.2%}")
        if not number and np.isfinite(error):
            axes.errorbar(days[-1:], shares[-1:], yerr=2 * error, color=color, capsize=4, label="two standard errors")
    axes.axhline(0.5, color="gray", linewidth=0.8, linestyle=":")
    last = np.concatenate([shares[len(shares) // 10 :] for _, shares in curves.values()])
    axes.set_ylim(min(last.min(), 0.47) - 0.01, max(last.max(), 0.53) + 0.01)
    axes.set_ylabel("share of hits so far")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    figure.autofmt_xdate()
    save_figure(figure, path)
