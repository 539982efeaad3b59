"""What is believed of a chain, as text: a state and a confidence for each residue, beside what was observed.

Not for how it was found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxformer.data.proteins.alphabet import THREE_STATES
from jaxformer.data.proteins.chain import Chain


class Folded(NamedTuple):
    """The predicted structure of one chain.

    Attributes:
      structure: a letter of `THREE_STATES` for each residue.
      confidence: float [S], the probability of that state.
    """

    structure: str
    confidence: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray) -> Folded:
        """From the probability of each state, [S, 3]."""
        return cls("".join(THREE_STATES[state] for state in shares.argmax(axis=-1)), shares.max(axis=-1))

    def digits(self) -> str:
        """The confidence of each residue in tenths, rounded down: 9 for 0.9 and more."""
        return "".join(str(min(9, int(10 * share))) for share in self.confidence)

    def q3(self, chain: Chain) -> float:
        """The share of scored residues of `chain` whose state is right; nan if there are none."""
        triples = zip(chain.three, self.structure, scored(chain), strict=True)
        right = [one == other for one, other, known in triples if known]
        return float(np.mean(right)) if right else float("nan")


def scored(chain: Chain) -> np.ndarray:
    """bool [S], which residues are scored."""
    return np.ones(len(chain), bool) if chain.scored is None else chain.scored


def observed(chain: Chain) -> str:
    """The observed states, with a dash where they are not known."""
    return "".join(state if known else "-" for state, known in zip(chain.three, scored(chain), strict=True))
