"""A trained network that is asked for the structure of protein chains, given as letters."""

from __future__ import annotations

from collections.abc import Sequence

from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.folded import Folded
from jaxformer.data.proteins.records import by_chain, records_of
from jaxformer.training.studies.records import LabelPredictor


class ChainPredictor(LabelPredictor):
    """Predicts chains with one set of parameters; see `LabelPredictor`."""

    def fold(self, sequences: Sequence[str]) -> list[Folded]:
        """The secondary structure of chains of any length, with the confidence of each residue.

        Args:
          sequences: upper-case letters of amino acids, X for unknown ones; those longer than `data.max_length` are read
            in windows.

        Raises:
          ValueError: for a letter that is no amino acid, or a chain without residues.
        """
        for number, sequence in enumerate(sequences):
            if not sequence:
                raise ValueError(f"chain {number} has no residues: leave it out")
        chains = [Chain(str(number), sequence) for number, sequence in enumerate(sequences)]
        records, pieces = records_of(chains, self.facts.values["parts"], self.config.data.max_length)
        return [Folded.of(shares) for _, shares in by_chain(pieces, self(records)["ss3"])] if chains else []
