"""The letters of proteins: amino acids and the ids that networks read, structural states, relative accessibility.

Not for files (the readers) and not for deciding what becomes of a bad chain (`cleaning`).
"""

from __future__ import annotations

import numpy as np

from jaxformer.types import UNK_ID

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""The 20 that the genetic code names, by their one-letter code (IUPAC-IUB 1984)."""

UNKNOWN_LETTERS = "BZJXUO"
"""Ambiguous (B, Z, J, X) and rare ones (selenocysteine U, pyrrolysine O): all read as one unknown amino acid."""

GAPS = "-.*"
"""Gaps of alignments, and the end of a translation: no residues."""

FIRST_ID = 4
"""Of `AMINO_ACIDS`, after the special tokens of every vocabulary."""

VOCABULARY_SIZE = FIRST_ID + len(AMINO_ACIDS)
"""V of a network that reads `encode`d chains."""

THREE_STATES = "HEC"
"""Helix, strand, coil; a label's number is its place here."""

EIGHT_STATES = "HGIEBTSC"
"""Of DSSP (Kabsch and Sander 1983): alpha, 3-10 and pi helix, strand, bridge, turn, bend, and nothing of these."""

_REDUCED = str.maketrans(EIGHT_STATES, "HHHEECCC")
_NOTHING = " -._~LP"
"""How files write DSSP's blank; P is the polyproline helix of DSSP 4, which older versions left blank."""

_IDS = np.full(256, -1, np.int32)
_IDS[[ord(letter) for letter in AMINO_ACIDS]] = FIRST_ID + np.arange(len(AMINO_ACIDS))
_IDS[[ord(letter) for letter in UNKNOWN_LETTERS]] = UNK_ID


def encode(sequence: str) -> np.ndarray:
    """Upper-case letters as int32 [S], the ids that networks read; `UNK_ID` for `UNKNOWN_LETTERS`.

    Raises:
      ValueError: for a letter that is neither, with its place.
    """
    ids = _IDS[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)]
    if (ids < 0).any():
        place = int(np.argmin(ids))
        raise ValueError(f"{sequence[place]!r} at residue {place + 1} is no amino acid")
    return ids


def to_eight_states(letters: str) -> str:
    """DSSP's letters as `EIGHT_STATES`: every way to write its blank becomes C. Other letters stay, to be refused."""
    return letters.upper().translate({ord(letter): "C" for letter in _NOTHING})


def to_three_states(eight: str) -> str:
    """`EIGHT_STATES` reduced as usual (Rost and Sander 1993): H, G, I to H; E, B to E; the rest to C."""
    return eight.translate(_REDUCED)


def classes(letters: str, states: str) -> np.ndarray:
    """int32 [S], the number of each letter in `states`; -1 for a letter that is not among them."""
    table = np.full(256, -1, np.int32)
    table[[ord(state) for state in states]] = np.arange(len(states))
    return table[np.frombuffer(letters.encode("latin-1", "replace"), np.uint8)]
