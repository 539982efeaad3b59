"""The picture of a run for a person: its learning curves, drawn from `metrics.jsonl`.

Not for records (`monitoring.trackers`), and needs no display: matplotlib draws into memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxformer.monitoring.durable import explain_disk_errors

_LOSSES = {"train/loss": ("training", "#4C72B0"), "validation/loss": ("validation", "#DD8452")}
_COLORS = ("#DD8452", "#8172B3", "#55A868", "#937860")
_STAR = "#C44E52"


class Curves(Protocol):
    """What a study wants to be shown: `training.study.Curves`."""

    @property
    def loss(self) -> str:
        """The unit of the loss."""

    @property
    def scores(self) -> Mapping[str, str]:
        """Metrics of the right panel, with a label for each."""

    @property
    def scale(self) -> float:
        """What they are multiplied by."""


def learning_curves(
    records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, curves: Curves, title: str = ""
) -> None:
    """Draws losses and scores over steps, on two panels, as a PNG.

    Args:
      records: of a run, as `trackers.read_metrics` gives them.
      path: of the picture; its folder is made if need be.
      curves: what is shown; the final score of the test split is a star.
      title: above the panels, such as the name of the experiment.

    Raises:
      DiskError: if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="tight")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    scores = {name: (label, color) for (name, label), color in zip(curves.scores.items(), _COLORS, strict=False)}
    _panel(left, records, _LOSSES, f"loss ({curves.loss})")
    _panel(right, records, scores, "score", curves.scale)
    losses = [value for name in _LOSSES for value in series(records, name)[1]]
    if losses:
        # The first losses would flatten the rest of the curve: the axis ends a little above a typical early value.
        left.set_ylim(top=min(max(losses), 3.5 * sorted(losses)[len(losses) // 2]) * 1.05)
    for name, (label, color) in scores.items():
        steps, values = series(records, name.replace("validation/", "test/"))
        if steps:
            final, label = curves.scale * values[-1], label.replace("validation", "test")
            color = _STAR if name == next(iter(scores)) else color
            right.plot(steps[-1:], [final], marker="*", markersize=12, color=color, linestyle="none",
                       label=f"{label} {final:.1f}")
    if right.has_data():
        _widen(right)
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        else:
            axes.text(0.5, 0.5, "nothing recorded yet", ha="center", transform=axes.transAxes, color="gray")
    last = max((int(record["step"]) for record in records), default=0)
    for axes in (left, right):
        axes.set_xlim(0, last * 1.02 or 1)
    if title:
        figure.suptitle(title)
    with explain_disk_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(os.fspath(path), format="png")


def _widen(axes: Any) -> None:
    """Shows 2 % below and above at least, in plain numbers: scores that are all but equal are not to look far apart."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    half = max((high - low) / 2, 0.02 * abs(middle))
    axes.set_ylim(middle - half, middle + half)
    axes.ticklabel_format(axis="y", useOffset=False)


def _panel(
    axes: Any,
    records: Sequence[Mapping[str, Any]],
    names: Mapping[str, tuple[str, str]],
    label: str,
    scale: float = 1.0,
) -> None:
    for name, (text, color) in names.items():
        steps, values = series(records, name)
        if steps:
            values = [scale * value for value in values]
            few = len(steps) <= 40
            axes.plot(steps, values, color=color, label=text, linewidth=1.5, marker="o" if few else None, markersize=3)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """(steps, values) of the metric `name`, in order, without records that lack it and values that are not finite."""
    points = [(int(record["step"]), float(record[name])) for record in records if record.get(name) is not None]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in points], [value for _, value in points]
