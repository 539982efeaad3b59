"""The picture of a protein chain: its observed and predicted secondary structure, with the confidence of each residue.

It needs no display: matplotlib draws into memory. The confusion of states is drawn by `pictures`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.monitoring.durable import explain_disk_errors

_COLORS = {"H": "#C44E52", "G": "#DD8452", "I": "#937860", "E": "#4C72B0", "B": "#64B5CD", "T": "#8172B3",
           "S": "#CCB974", "C": "#D9D9D9"}  # fmt: skip
_ROW = 100


def draw_chain(
    sequence: str,
    predicted: str,
    confidence: np.ndarray,
    path: str | os.PathLike[str],
    *,
    observed: str = "",
    scored: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Draws a chain as a PNG, 100 residues a row: the observed states over the predicted ones, and a confidence curve.

    Args:
      sequence: S letters.
      predicted: S letters of states.
      confidence: float [S], the probability of the predicted state.
      path: of the picture; its folder is made if need be.
      observed: S letters of states; empty if not known.
      scored: bool [S], False where the observed state is not known; None for all known.
      title: above the rows.

    Raises:
      ValueError: if the lengths differ.
      DiskError: if it cannot be written.
    """
    parts = {"states": len(predicted), "confidences": len(confidence), "observed states": len(observed or sequence)}
    for what, length in parts.items():
        if length != len(sequence):
            raise ValueError(f"{len(sequence)} residues but {length} {what}: give one for each residue")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(sequence) // _ROW)
    figure = Figure(figsize=(12, 0.5 + 1.3 * rows), dpi=120, layout="tight")
    FigureCanvasAgg(figure)
    known = np.ones(len(sequence), bool) if scored is None else scored
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        for place in range(row * _ROW, min((row + 1) * _ROW, len(sequence))):
            x = place - row * _ROW
            if observed and known[place]:
                axes.add_patch(_box(x, 1.7, _COLORS.get(observed[place], "white")))
            axes.add_patch(_box(x, 1.15, _COLORS.get(predicted[place], "white")))
            axes.text(x + 0.5, 2.35, sequence[place], ha="center", va="bottom", fontsize=6, family="monospace")
        part = confidence[row * _ROW : (row + 1) * _ROW]
        axes.plot(np.arange(len(part)) + 0.5, part, color="black", linewidth=0.9)
        axes.set_xlim(0, _ROW)
        axes.set_ylim(0, 2.9)
        ticks = {0.0: "0", 0.5: "confidence", 1.0: "1", 1.4: "predicted"} | ({1.95: "observed"} if observed else {})
        axes.set_yticks(list(ticks), list(ticks.values()), fontsize=6)
        axes.set_xticks(range(0, _ROW + 1, 10), [str(row * _ROW + x) for x in range(0, _ROW + 1, 10)], fontsize=6)
        axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, sorted(set(predicted) | set(observed), key="HGIEBTSC".find))
    if title:
        figure.suptitle(title, fontsize=9)
    with explain_disk_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(os.fspath(path), format="png")


def _box(x: float, y: float, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1.0, 0.5, color=color, linewidth=0)


def _legend(figure: Any, states: list[str]) -> None:
    boxes = [_box(0, 0, _COLORS.get(state, "white")) for state in states]
    figure.legend(boxes, states, loc="upper right", ncols=len(states), fontsize=7, frameon=False)
