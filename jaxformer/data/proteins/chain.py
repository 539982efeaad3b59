"""One protein chain with what is known of its structure: the record that every protein source yields."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Chain:
    """A chain of S residues. As a reader gives it, nothing is checked; as `cleaning` gives it, everything fits.

    Attributes:
      name: such as `1cbs-A`.
      sequence: one letter a residue.
      three: helix, strand or coil, a letter of `THREE_STATES` a residue; empty if not known.
      eight: of DSSP, a letter of `EIGHT_STATES` a residue; empty if not known.
      accessibility: float32 [S], solvent-accessible area as a share of the largest that such a residue can have (Tien
        et al. 2013), nan where not known; None if not known at all.
      scored: bool [S], False for residues whose structure was not resolved; None for all.
      by_dssp: False for labels that the depositors gave, which follow other rules than DSSP's.
      place: file and line, for messages.
    """

    name: str
    sequence: str
    three: str = ""
    eight: str = ""
    accessibility: np.ndarray | None = None
    scored: np.ndarray | None = None
    by_dssp: bool = True
    place: str = ""

    def __len__(self) -> int:
        return len(self.sequence)
