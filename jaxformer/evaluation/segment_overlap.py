"""Segment overlap of secondary structures, SOV'99 (Zemla et al. 1999): whether whole helices and strands were found.

A prediction that cuts every helix in two has a fine accuracy by residue and a poor segment overlap. There is no kept
implementation on PyPI, so this one follows the paper's definition. Not for accuracy by residue: `structure`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """Residues `start` to `stop` (exclusive) in one state."""

    start: int
    stop: int

class Overlap(NamedTuple):
    """What is summed over the segments of a state: SOV is 100 * sum / residues.

    Attributes:
      sum: the paper's terms, each weighted with the length of its observed segment.
      residues: N, the lengths of the observed segments, one for each predicted segment that overlaps it.
    """

    sum: float
    residues: int


def segments(states: np.ndarray, state: int, scored: np.ndarray | None = None) -> list[Segment]:
    """The runs of `state` in `states` [S]; a residue that is not `scored` ends a run."""
    inside = states == state
    if scored is not None:
        inside = inside & scored
    steps = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    return [Segment(int(start), int(stop)) for start, stop in zip(steps[::2], steps[1::2], strict=True)]


def overlap(observed: list[Segment], predicted: list[Segment]) -> Overlap:
    """The sum of Zemla et al. 1999 over the segments of one state in one chain."""
    total, residues = 0.0, 0
    for one in observed:
        length = one.stop - one.start
        pairs = [other for other in predicted if min(one.stop, other.stop) > max(one.start, other.start)]
        residues += length * max(len(pairs), 1)
        for other in pairs:
            common = min(one.stop, other.stop) - max(one.start, other.start)
            extent = max(one.stop, other.stop) - min(one.start, other.start)
            allowed = min(extent - common, common, length // 2, (other.stop - other.start) // 2)
            total += (common + allowed) / extent * length
    return Overlap(total, residues)


def segment_overlap(
    observed: np.ndarray, predicted: np.ndarray, num_states: int, scored: np.ndarray | None = None
) -> float:
    """SOV of a chain over all its states, from 0 to 1; nan if no residue is scored.

    Args:
      observed: int [S], states.
      predicted: int [S].
      num_states: how many states there are.
      scored: bool [S]; residues that are not scored belong to no segment. None for all.

    Raises:
      ValueError: if the lengths differ.
    """
    if len(observed) != len(predicted):
        raise ValueError(f"{len(observed)} observed states but {len(predicted)} predicted ones: give one a residue")
    parts = [
        overlap(segments(observed, state, scored), segments(predicted, state, scored)) for state in range(num_states)
    ]
    residues = sum(part.residues for part in parts)
    return sum(part.sum for part in parts) / residues if residues else float("nan")
