"""The picture of a sweep: curves of all trials, and which values led where, in parallel coordinates.

Drawn into memory, as `monitoring.report` does. Not for what is best (`outcomes`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxformer.config.checks import as_text
from jaxformer.monitoring.durable import explain_disk_errors
from jaxformer.training.sweep.folder import short_names
from jaxformer.training.sweep.outcomes import FINAL, Outcome, Results

_BEST = "#C44E52"
_WITHOUT = "#BBBBBB"


def draw(results: Results, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws `results` as a PNG.

    On the left the metric on the way over steps, a line a trial, the best one in red. On the right a vertical axis for
    every swept field and one for the score; a line a trial, coloured by its score, grey and dashed without one.

    Args:
      results: ranked.
      path: of the picture.
      title: above the panels.

    Raises:
      DiskError: if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = list(results.outcomes[0].fields) if results.outcomes else []
    figure = Figure(figsize=(8 + 1.6 * (len(fields) + 1), 4.5), dpi=120, layout="tight")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(6, 1.6 * (len(fields) + 1)))
    _curves(left, results)
    _coordinates(right, results, fields)
    if title:
        figure.suptitle(title)
    with explain_disk_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(os.fspath(path), format="png")


def _curves(axes: Any, results: Results) -> None:
    best = _best(results)
    for outcome in reversed(results.outcomes):  # the best one above all others
        if not outcome.curve[0]:
            continue
        marker = "o" if len(outcome.curve[0]) <= 20 else None
        if outcome is best:
            style = {"color": _BEST, "linewidth": 2.2, "label": f"best: {outcome.trial.name}"}
        else:
            colour = _colour(results, outcome)
            style = {"color": colour, "linewidth": 1.0, "alpha": 0.8}
        axes.plot(*outcome.curve, marker=marker, markersize=3, **style)
    if not axes.lines:
        axes.text(0.5, 0.5, "nothing recorded on the way", ha="center", transform=axes.transAxes, color="gray")
    elif best is not None and best.curve[0]:
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{results.metric}, on the way")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _coordinates(axes: Any, results: Results, fields: Sequence[str]) -> None:
    scales = [Scale([outcome.fields[name] for outcome in results.outcomes]) for name in fields]
    scores = [score for outcome in results.outcomes if (score := results.score(outcome)) is not None]
    last = Scale(scores)
    best = _best(results)
    for outcome in reversed(results.outcomes):
        heights = [scale.height(outcome.fields[name]) for name, scale in zip(fields, scales, strict=True)]
        score = results.score(outcome)
        if score is None:
            axes.plot(range(len(heights)), heights, color=_WITHOUT, linestyle="--", linewidth=1.0)
            continue
        style = {"color": _BEST, "linewidth": 2.6} if outcome is best else {"color": _colour(results, outcome)}
        axes.plot(range(len(heights) + 1), [*heights, last.height(score)], marker="o", markersize=3, **style)
    short = short_names(fields)
    basis = "final" if results.basis == FINAL else "best on the way"
    names = [*(short[name] for name in fields), f"{results.metric}\n({basis})"]
    for position, scale in enumerate([*scales, last]):
        axes.axvline(position, color="black", linewidth=0.8)
        for value in scale.ticks():
            text = f"{value:.4g}" if isinstance(value, float) else as_text(value)
            axes.annotate(
                text if len(text) <= 24 else text[:21] + "...", (position, scale.height(value)), xytext=(4, 2),
                textcoords="offset points", fontsize=8,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
            )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(names) - 0.5)
    axes.set_ylim(-0.06, 1.06)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


class Scale:
    """Where values lie on an axis, 0 to 1: numbers by size, or its logarithm if they span a decade; the rest evenly.

    Args:
      values: all that there are; they may repeat.
    """

    _MOST_TICKS = 8
    _ROOM = 0.04
    """Height of a line of text."""

    def __init__(self, values: Sequence[Any]) -> None:
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        self.values = sorted(set(values)) if numbers else list(dict.fromkeys(values))
        self._numbers = numbers and bool(values)
        self.logarithmic = self._numbers and self.values[0] > 0 and self.values[-1] >= 10 * self.values[0]

    def height(self, value: Any) -> float:
        """Of `value`; the middle where all are the same."""
        if len(self.values) < 2:
            return 0.5
        if not self._numbers:
            return self.values.index(value) / (len(self.values) - 1)
        low, high, at = (self._measure(each) for each in (self.values[0], self.values[-1], value))
        return (at - low) / (high - low)

    def _measure(self, value: float) -> float:
        return math.log(value) if self.logarithmic else float(value)

    def ticks(self) -> list[Any]:
        """The values to write down: all of a few, else the two ends and some between; none that another would cover."""
        some = self.values
        if len(some) > self._MOST_TICKS:
            step = (len(some) - 1) / (self._MOST_TICKS - 1)
            some = [some[round(index * step)] for index in range(self._MOST_TICKS)]
        found = some[:1]
        for value in some[1:-1]:
            below, here, above = map(self.height, (found[-1], value, some[-1]))
            if here - below > self._ROOM and above - here > self._ROOM:
                found.append(value)
        return found + some[1:][-1:]


def _best(results: Results) -> Outcome | None:
    first = results.outcomes[0] if results.outcomes else None
    return first if first is not None and results.score(first) is not None else None


def _colour(results: Results, outcome: Outcome) -> Any:
    """From the palette by score, the bright end for the best; grey without one."""
    from matplotlib import colormaps

    score = results.score(outcome)
    scores = [each for other in results.outcomes if (each := results.score(other)) is not None]
    if score is None:
        return _WITHOUT
    low, high = min(scores), max(scores)
    share = (score - low) / (high - low) if high > low else 0.5
    return colormaps["viridis"](0.9 * (1 - share if results.lower else share))
