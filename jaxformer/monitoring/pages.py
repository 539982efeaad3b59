"""A page on which texts are coloured by what their words did to a prediction; one HTML file without scripts.

Not for computing that (`tasks.attribution`).
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxformer.monitoring.durable import atomic_write, explain_disk_errors

_STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #ddd; padding: .4rem .6rem; vertical-align: top; }
td.label { white-space: nowrap; } .wrong { color: #b00020; font-weight: 600; }
span { border-radius: .2rem; padding: .05rem .1rem; }
"""


class ColouredText(NamedTuple):
    """One text of the page.

    Attributes:
      words: in order.
      scores: what each adds to the prediction; negative where it speaks against it.
      predicted: what was predicted.
      wanted: what is true; empty if nobody knows.
      confidence: probability of the prediction.
    """

    words: Sequence[str]
    scores: Sequence[float]
    predicted: str
    wanted: str
    confidence: float


def write_coloured_texts(
    texts: Sequence[ColouredText], path: str | os.PathLike[str], *, title: str, explanation: str
) -> None:
    """Writes the page: green words speak for the prediction, red ones against it, as strongly as they are coloured.

    Args:
      texts: in the order of the page.
      path: of the file; its folder is made if need be.
      title, explanation: above them.

    Raises:
      DiskError: if it cannot be written.
    """
    rows = "\n".join(_row(text) for text in texts)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(explanation)}</p>\n"
        f"<table>\n{rows}\n</table></body></html>\n"
    )
    with explain_disk_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    atomic_write(Path(path), page)


def _row(text: ColouredText) -> str:
    largest = max((abs(score) for score in text.scores), default=0.0) or 1.0
    words = " ".join(
        f'<span style="background: {_colour(score / largest)}" title="{score:+.3f}">{html.escape(word)}</span>'
        for word, score in zip(text.words, text.scores, strict=True)
    )
    label = html.escape(f"{text.predicted} {text.confidence:.0%}")
    if text.wanted and text.wanted != text.predicted:
        label = f'<span class="wrong">{label}, but {html.escape(text.wanted)}</span>'
    return f'<tr><td class="label">{label}</td><td>{words}</td></tr>'


def _colour(share: float) -> str:
    """From red at -1 over white to green at 1."""
    strength = min(1.0, abs(share))
    red, green, blue = (46, 160, 67) if share > 0 else (207, 34, 46)
    return f"rgba({red}, {green}, {blue}, {0.75 * strength:.2f})"
