"""Chains as records that a network is trained on: ids of residues, with what is wanted of each; long chains in windows.

Not for reading or cleaning. A record is a `Piece`: a chain that fits, or a window of one that does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxformer.data.labelled import LabelledDataset, Labels
from jaxformer.data.proteins.alphabet import EIGHT_STATES, THREE_STATES, classes, encode
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.windows import Window, cut, put_together

STATES = {"ss3": THREE_STATES, "ss8": EIGHT_STATES}
"""What may be predicted as classes, with a letter for each; relative accessibility, `rsa`, is a number."""


class Piece(NamedTuple):
    """What one record is of."""

    chain: Chain
    window: Window


def parts_of(chains: Sequence[Chain]) -> list[str]:
    """What these clean chains have labels for: `ss3`, and perhaps `ss8` and `rsa`."""
    eight = any(chain.eight for chain in chains)
    areas = any(chain.accessibility is not None for chain in chains)
    return ["ss3", *(["ss8"] if eight else []), *(["rsa"] if areas else [])]


def records_of(
    chains: Sequence[Chain], parts: Sequence[str], max_length: int
) -> tuple[LabelledDataset, list[Piece]]:
    """Records of clean chains, and what each of them is of.

    A residue weighs 1 in the record that owns it, if it is scored and its label is known; else 0.

    Args:
      chains: from `cleaning`.
      parts: names of labels; see `parts_of`.
      max_length: the longest record; a longer chain is cut into overlapping windows.
    """
    pieces = [Piece(chain, window) for chain in chains for window in cut(len(chain), max_length)]
    inputs = [encode(chain.sequence[window.start : window.stop]) for chain, window in pieces]
    labels = {}
    for part in parts:
        found = [_labels(piece, part) for piece in pieces]
        nothing: np.ndarray = np.zeros(0, np.float32 if part == "rsa" else np.int32)
        values = np.concatenate([nothing, *(own for own, _ in found)])
        labels[part] = Labels.positions(values, np.concatenate([np.zeros(0, np.float32), *(own for _, own in found)]))
    return LabelledDataset.from_lists(inputs, labels), pieces


def _labels(piece: Piece, part: str) -> tuple[np.ndarray, np.ndarray]:
    """(values, weights) of the residues of a piece; 0 where they are not known."""
    chain, window = piece
    here = slice(window.start, window.stop)
    places = np.arange(window.start, window.stop)
    weights = (places >= window.first) & (places < window.last)
    if chain.scored is not None:
        weights &= chain.scored[here]
    if part == "rsa":
        areas = chain.accessibility
        values = np.full(len(places), np.nan, np.float32) if areas is None else areas[here].astype(np.float32)
        known = np.isfinite(values)
        return np.where(known, values, np.float32(0)), (weights & known).astype(np.float32)
    letters = chain.three if part == "ss3" else chain.eight
    if not letters:
        return np.zeros(len(places), np.int32), np.zeros(len(places), np.float32)
    return classes(letters[here], STATES[part]), weights.astype(np.float32)


def chains_of(pieces: Iterable[Piece]) -> list[Chain]:
    """The chains that these pieces, in the order of `records_of`, are of."""
    return [piece.chain for piece in pieces if piece.window.start == 0]


def by_chain(pieces: Sequence[Piece], values: np.ndarray) -> Iterator[tuple[Chain, np.ndarray]]:
    """[m, ...] of all records put together to [S, ...] of each chain, in their order.

    A chain whose last windows are not among the pieces comes without their part.
    """
    ends = np.cumsum([piece.window.stop - piece.window.start for piece in pieces])
    first = 0
    while first < len(pieces):
        chain, last = pieces[first].chain, first + 1
        while last < len(pieces) and pieces[last].chain is chain and pieces[last].window.start > 0:
            last += 1
        windows = [piece.window for piece in pieces[first:last]]
        parts = [values[end - (window.stop - window.start) : end]
                 for end, window in zip(ends[first:last], windows, strict=True)]  # fmt: skip
        yield chain, put_together(windows, parts)
        first = last
