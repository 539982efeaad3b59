"""Cleaning of chains, every rule counted: what is changed, what is dropped, and where the first such chain stood.

A chain that comes out has upper-case letters of amino acids, labels as long as its sequence, and a residue that is
scored. Not for cutting long chains (`windows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from jaxformer.data.proteins.alphabet import (
    AMINO_ACIDS,
    EIGHT_STATES,
    GAPS,
    THREE_STATES,
    UNKNOWN_LETTERS,
    to_three_states,
)
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.folded import scored

_RULES = {
    "empty": "no residues",
    "letters": "letters that are no amino acid",
    "unlabelled": "no structure found",
    "label_length": "labels of another length than the sequence",
    "label_letters": "labels that are no structure",
    "unscored": "no residue that is scored",
    "duplicates": "sequence of an earlier chain",
}
_CHANGES = {
    "lower_case": "lower-case letters",
    "gaps": "gaps removed",
    "unknown": "with unknown amino acids (B Z J X U O)",
    "depositors": "labelled by depositors, not by DSSP",
}
_KNOWN = frozenset(AMINO_ACIDS + UNKNOWN_LETTERS)


@dataclasses.dataclass
class ChainReport:
    """How many chains were read, dropped by each rule, kept, and changed.

    Attributes:
      read: chains read.
      empty, letters, unlabelled, label_length, label_letters, unscored, duplicates: chains dropped, each counted under
        the first rule that it broke.
      lower_case, gaps, unknown, depositors: chains changed, or remarkable, dropped ones included.
      residues: of the chains kept.
      scored: of these, the ones that are scored.
      unknown_residues: of these, the ones without a known amino acid.
      first: for each rule, the first chain that broke it, and where it stood.
    """

    read: int = 0
    empty: int = 0
    letters: int = 0
    unlabelled: int = 0
    label_length: int = 0
    label_letters: int = 0
    unscored: int = 0
    duplicates: int = 0
    lower_case: int = 0
    gaps: int = 0
    unknown: int = 0
    depositors: int = 0
    residues: int = 0
    scored: int = 0
    unknown_residues: int = 0
    first: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Chains that broke no rule."""
        return self.read - sum(getattr(self, rule) for rule in _RULES)

    def table(self) -> str:
        """The report as plain text, one rule a line, with the first chain that broke it."""
        rows = [("chains read", self.read, "")]
        rows += [(f"dropped: {text}", getattr(self, rule), self.first.get(rule, "")) for rule, text in _RULES.items()]
        rows += [("chains kept", self.kept, "")]
        rows += [(f"chains: {text}", getattr(self, rule), "") for rule, text in _CHANGES.items()]
        rows += [("residues", self.residues, ""), ("residues scored", self.scored, "")]
        rows += [("residues of unknown amino acid", self.unknown_residues, "")]
        width = max(len(text) for text, _, _ in rows)
        return "\n".join(
            f"{text:<{width}}  {count:>11,}" + (f"  first: {where}" if where else "") for text, count, where in rows
        )


class ChainCleaner:
    """Checks and normalises chains one by one, counting in `report`.

    Args:
      deduplicate: drop a chain whose sequence an earlier one had.

    Attributes:
      report: the counts so far.
    """

    def __init__(self, *, deduplicate: bool = False) -> None:
        self.report = ChainReport()
        self._deduplicate = deduplicate
        self._seen: set[str] = set()

    def clean(self, chains: Iterable[Chain]) -> Iterator[Chain]:
        """The chains that break no rule, normalised."""
        for chain in chains:
            self.report.read += 1
            normal, broken = self._normalised(chain)
            if broken:
                setattr(self.report, broken, getattr(self.report, broken) + 1)
                self.report.first.setdefault(broken, " ".join(filter(None, (chain.name, f"({chain.place})"))))
                continue
            self._seen.add(normal.sequence)
            self.report.residues += len(normal)
            self.report.scored += int(scored(normal).sum())
            self.report.unknown_residues += sum(normal.sequence.count(letter) for letter in UNKNOWN_LETTERS)
            yield normal

    def _normalised(self, chain: Chain) -> tuple[Chain, str]:
        """`chain` normalised, and the rule that it broke, if any."""
        if not chain.sequence:
            return chain, "empty"
        lengths = [len(labels) for labels in (chain.three, chain.eight) if labels]
        lengths += [len(labels) for labels in (chain.accessibility, chain.scored) if labels is not None]
        if any(length != len(chain) for length in lengths):
            return chain, "label_length"
        chain = self._without_gaps(self._upper(chain))
        if not chain.sequence:
            return chain, "empty"
        letters = set(chain.sequence)
        if not letters <= _KNOWN:
            return chain, "letters"
        if not chain.three and not chain.eight:
            return chain, "unlabelled"
        if set(chain.eight) - set(EIGHT_STATES) or set(chain.three) - set(THREE_STATES):
            return chain, "label_letters"
        self.report.unknown += bool(letters & set(UNKNOWN_LETTERS))
        self.report.depositors += not chain.by_dssp
        chain = dataclasses.replace(chain, three=chain.three or to_three_states(chain.eight), scored=scored(chain))
        return chain, self._unusable(chain)

    def _unusable(self, chain: Chain) -> str:
        """The rule that keeps a sound chain out, if any."""
        if not scored(chain).any():
            return "unscored"
        return "duplicates" if self._deduplicate and chain.sequence in self._seen else ""

    def _upper(self, chain: Chain) -> Chain:
        upper = chain.sequence.upper()
        self.report.lower_case += upper != chain.sequence
        return dataclasses.replace(chain, sequence=upper)

    def _without_gaps(self, chain: Chain) -> Chain:
        if not any(gap in chain.sequence for gap in GAPS):
            return chain
        self.report.gaps += 1
        stays = np.array([letter not in GAPS for letter in chain.sequence])

        def of(letters: str) -> str:
            return "".join(letter for letter, stay in zip(letters, stays, strict=True) if stay) if letters else ""

        return dataclasses.replace(
            chain,
            sequence=of(chain.sequence),
            three=of(chain.three),
            eight=of(chain.eight),
            accessibility=None if chain.accessibility is None else chain.accessibility[stays],
            scored=None if chain.scored is None else chain.scored[stays],
        )
