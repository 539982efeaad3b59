"""Long lines cut into parts that a model accepts: at the ends of sentences, then of clauses, then of words.

Text only: the caller says what fits. Not for corpora, where long pairs are dropped and not cut (`prepare.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

# White space after closing punctuation, quotes and brackets included; CJK marks need no space.
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)\]])\s+|(?<=[。！？])")
_CLAUSE = re.compile(r"(?<=[,;:—–)\]])\s+|\s+(?=[—–(\[-]\s?)|(?<=[，；：、])")
_WORD = re.compile(r"\s+")

Fits = Callable[[str], bool]


def split_line(text: str, fits: Fits, may_join: Fits | None = None) -> list[str]:
    """Parts of `text`, in order, each of which `fits`; no word is lost, only white space at the cuts.

    Sentences stay apart, because a model is trained on single sentences. Pieces of a sentence that is too long are
    joined again as far as they fit: clauses if they are enough, then words; a word that is too long is halved.

    Args:
      text: one line.
      fits: whether the model accepts a text; must accept any single character.
      may_join: whether pieces may be joined to a text; by default whenever that fits.
    """
    if fits(text):
        return [text]
    parts = []
    for sentence in _pieces(_SENTENCE, text):
        parts += [sentence] if fits(sentence) else _split(sentence, fits, may_join or fits, (_CLAUSE, _WORD))
    return parts


def _pieces(pattern: re.Pattern[str], text: str) -> list[str]:
    return [piece for piece in pattern.split(text) if piece.strip()]


def _split(text: str, fits: Fits, may_join: Fits, patterns: tuple[re.Pattern[str], ...]) -> list[str]:
    """`text`, too long, cut by the first pattern; pieces still too long by the next ones, at last in halves."""
    parts: list[str] = []
    if not patterns:
        middle = len(text) // 2
        for half in (text[:middle], text[middle:]):
            parts += [half] if len(half) <= 1 or fits(half) else _split(half, fits, may_join, ())
        return parts
    joinable = False  # whether the last part is made of pieces that fit, and may take another
    for piece in _pieces(patterns[0], text):
        if joinable and may_join(f"{parts[-1]} {piece}"):
            parts[-1] = f"{parts[-1]} {piece}"
        elif fits(piece):
            parts.append(piece)
            joinable = True
        else:
            parts += _split(piece, fits, may_join, patterns[1:])
            joinable = False
    return parts
