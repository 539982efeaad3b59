"""Bundled chains: sequences whose structure follows from them by rules, so that a study runs with nothing at hand.

A hidden semi-Markov model writes a chain: a fold (all helices, all strands, or both) is drawn, then segments with
lengths of their own, then residues by the published preferences of each state (Chou and Fasman 1978). Helices have a
hydrophobic side that returns every 3.6 residues, strands one that returns every second, and borders have residues that
like to stand there. A window tells much; what the rest of the chain says about the fold, and the rhythm of a whole
segment, tell more. It is no model of real proteins: what is learnt here says nothing about them.

Chain i of a split is a pure function of (seed, split, i).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import overload

import numpy as np

from jaxformer.data.proteins.alphabet import AMINO_ACIDS, to_three_states
from jaxformer.data.proteins.chain import Chain

DEFAULT_SIZES = {"train": 3000, "validation": 200, "test": 200}
LENGTHS = (40, 160)
"""The shortest and the longest chain, but for the rest of its last segment."""

# By the order of AMINO_ACIDS: share in proteins (%), preference for helix, strand and turn (Chou and Fasman 1978), and
# hydropathy (Kyte and Doolittle 1982).
_SHARE = np.array([8.3, 1.4, 5.5, 6.7, 3.9, 7.1, 2.3, 5.9, 5.8, 9.7, 2.4, 4.1, 4.7, 3.9, 5.5, 6.6, 5.3, 6.9, 1.1, 2.9])
_PREFERENCE = {
    "H": [1.42, 0.70, 1.01, 1.51, 1.13, 0.57, 1.00, 1.08, 1.16, 1.21, 1.45, 0.67, 0.57, 1.11, 0.98, 0.77, 0.83, 1.06,
          1.08, 0.69],
    "E": [0.83, 1.19, 0.54, 0.37, 1.38, 0.75, 0.87, 1.60, 0.74, 1.30, 1.05, 0.89, 0.55, 1.10, 0.93, 0.75, 1.19, 1.70,
          1.37, 1.47],
    "C": [0.66, 1.19, 1.46, 0.74, 0.60, 1.56, 0.95, 0.47, 1.01, 0.59, 0.60, 1.56, 1.52, 0.98, 0.95, 1.43, 0.96, 0.50,
          0.96, 1.14],
}  # fmt: skip
_HYDROPATHY = np.array([1.8, 2.5, -3.5, -3.5, 2.8, -0.4, -3.2, 4.5, -3.9, 3.8, 1.9, -3.5, -1.6, -3.5, -4.5, -0.8, -0.7,
                        4.2, -0.9, -1.3]) / 3.0  # fmt: skip
_BORDERS = {"H": ("STDN", "GN"), "E": ("KRT", "DG")}
"""What likes to stand just before a segment, and just after it."""

_PERIOD = {"H": 3.6, "E": 2.0}
_SEGMENT_LENGTHS = {"H": (5, 18), "E": (3, 9), "C": (2, 9)}
_FOLDS = ("H", "E", "HE")
_STRENGTH = 1.3
_RHYTHM = 0.9


class SyntheticChains(Sequence[Chain]):
    """Chains of one split, written when they are asked for.

    Args:
      split: `train`, `validation` or `test`.
      num_chains: 0 for the default, see `DEFAULT_SIZES`.
      seed: another seed gives other chains.

    Raises:
      ValueError: for an unknown split or a negative number.
    """

    def __init__(self, split: str, num_chains: int = 0, seed: int = 0) -> None:
        if split not in DEFAULT_SIZES:
            raise ValueError(f"there is no bundled split {split!r}: choose one of {', '.join(DEFAULT_SIZES)}")
        if num_chains < 0:
            raise ValueError(f"num_chains must be 0 (the default size) or greater, got {num_chains}")
        self.split, self.seed = split, seed
        self._size = num_chains or DEFAULT_SIZES[split]

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Chain: ...

    @overload
    def __getitem__(self, index: slice) -> list[Chain]: ...

    def __getitem__(self, index: int | slice) -> Chain | list[Chain]:
        if isinstance(index, slice):
            return [self._write(i) for i in range(*index.indices(self._size))]
        position = index + self._size if index < 0 else index
        if not 0 <= position < self._size:
            raise IndexError(f"chain {index} of {self._size}")
        return self._write(position)

    def _write(self, index: int) -> Chain:
        random = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        eight, exposure = _structure(random)
        letters = "".join(AMINO_ACIDS[i] for i in _residues(random, to_three_states(eight), exposure))
        noise = random.normal(0.0, 0.1, len(eight))
        accessibility = np.clip(0.4 + 0.3 * exposure + noise, 0.0, 1.0).astype(np.float32)
        name = f"{self.split}-{index}"
        return Chain(
            name, letters, to_three_states(eight), eight, accessibility, np.ones(len(eight), bool), place="bundled"
        )


def _structure(random: np.random.Generator) -> tuple[str, np.ndarray]:
    """Eight states of a chain, and how much each residue is turned outwards, from -1 to 1."""
    fold = _FOLDS[random.integers(len(_FOLDS))]
    wanted = random.integers(*LENGTHS)
    eight, exposure = "", []
    while len(eight) < wanted:
        for state in ("C", fold[random.integers(len(fold))]):
            low, high = _SEGMENT_LENGTHS[state]
            length = int(random.integers(low, high + 1))
            phase = random.uniform(0.0, 2.0 * np.pi)
            exposure += [
                np.cos(2.0 * np.pi * i / _PERIOD[state] + phase) if state in _PERIOD else 0.5 for i in range(length)
            ]
            eight += _subtle(state, length)
    return eight, np.array(exposure)


def _subtle(state: str, length: int) -> str:
    """A segment in eight states: short helices are 3-10, short coils turns, and long ones end in bends."""
    if state == "H":
        return ("H" if length > 6 else "G") * length
    if state == "E":
        return "E" * length
    return "T" * length if length <= 4 else "S" + "C" * (length - 2) + "S"


def _residues(random: np.random.Generator, three: str, exposure: np.ndarray) -> np.ndarray:
    """The number of an amino acid for each residue."""
    scores = np.stack([_STRENGTH * np.log(_PREFERENCE[state]) for state in three]) + np.log(_SHARE)
    inside = np.array([_RHYTHM if state in _PERIOD else 0.0 for state in three])
    scores -= (inside * exposure)[:, None] * _HYDROPATHY
    for place in range(1, len(three)):
        before, here = three[place - 1], three[place]
        if before != here and here in _BORDERS:
            scores[place - 1, [AMINO_ACIDS.index(letter) for letter in _BORDERS[here][0]]] += 1.2
        if before != here and before in _BORDERS:
            scores[place, [AMINO_ACIDS.index(letter) for letter in _BORDERS[before][1]]] += 1.2
    # The largest of scores with Gumbel noise is a draw from their softmax.
    return np.argmax(scores + random.gumbel(size=scores.shape), axis=1)
