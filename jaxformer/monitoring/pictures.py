"""Pictures of predicted classes: a confusion matrix, and how far confidence can be trusted.

Not for learning curves (`report`); needs no display.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxformer.monitoring.durable import explain_disk_errors

_MOST_CELLS_WITH_TEXT = 30
"""Classes of the largest confusion matrix whose cells say their numbers."""
_LARGEST = 24.0
"""Inches: a picture of millions of pixels is still opened, one of a thousand classes at that rate is not."""
_MOST_TICKS = 60


class Reliability(Protocol):
    """What `evaluation.classification.reliability` gives."""

    @property
    def edges(self) -> np.ndarray:
        """[bins + 1]."""

    @property
    def confidence(self) -> np.ndarray:
        """[bins]."""

    @property
    def accuracy(self) -> np.ndarray:
        """[bins]."""

    @property
    def weight(self) -> np.ndarray:
        """[bins]."""

    @property
    def error(self) -> float:
        """The expected calibration error."""


def draw_confusion(
    confusion: np.ndarray, names: Sequence[str], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draws a confusion matrix [E, E] as a PNG: shares of each true class, with counts where they can be read.

    Above 30 classes the colours alone are shown, and above 60 not every class is named.

    Raises:
      DiskError: if it cannot be written.
    """
    size = min(max(4.0, 0.7 * len(names) + 2.5), _LARGEST)
    figure = new_figure(size, 0.85 * size)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1e-300)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, label="share of the true class")
    for row, column in np.ndindex(*confusion.shape) if len(names) <= _MOST_CELLS_WITH_TEXT else ():
        share = shares[row, column]
        axes.text(column, row, f"{share:.0%}\n{confusion[row, column]:,.0f}", ha="center", va="center", fontsize=8,
                  color="white" if share > 0.5 else "black")  # fmt: skip
    step = -(-len(names) // _MOST_TICKS)
    places, shown = np.arange(0, len(names), step), names[::step]
    axes.set_xticks(places, shown, rotation=45 if len(names) > 4 else 0)
    axes.set_yticks(places, shown)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    save_figure(figure, path)


def draw_calibration(curves: Mapping[str, Reliability], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws accuracy over confidence for some splits as a PNG; the diagonal is a model that knows what it knows.

    Args:
      curves: by name of the split.
      path: of the picture.
      title: above it.

    Raises:
      DiskError: if it cannot be written.
    """
    figure = new_figure(5.5, 5.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfect")
    first = 1.0
    for name, curve in curves.items():
        full = curve.weight > 0
        first = min(first, float(curve.edges[:-1][full].min(initial=1.0)))
        label = f"{name}, calibration error {curve.error:.3f}"
        upper.plot(curve.confidence[full], curve.accuracy[full], marker="o", markersize=4, label=label)
        lower.stairs(curve.weight, curve.edges, label=name)
    upper.set_xlim(first, 1.0)
    upper.set_ylim(0.0, 1.02)
    upper.set_ylabel("share that is right")
    upper.legend(frameon=False, loc="lower right")
    upper.set_title(title)
    lower.set_xlabel("confidence (probability of the predicted class)")
    lower.set_ylabel("predictions")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="tight")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a figure as a PNG, in a folder that is made if need be.

    Raises:
      DiskError: if it cannot be written.
    """
    with explain_disk_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(os.fspath(path), format="png")
