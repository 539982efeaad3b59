"""FASTA, read with the line of every residue, so that a message can say where a letter is wrong.

Biopython's parsers tell no lines. Not for deciding which letters are right: see `cleaning` and `check_letters`.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Iterator

from jaxformer.data.proteins.alphabet import AMINO_ACIDS, GAPS, UNKNOWN_LETTERS

_LETTERS = frozenset(AMINO_ACIDS + UNKNOWN_LETTERS)
_MAY_STAND = _LETTERS | frozenset(GAPS)


@dataclasses.dataclass(frozen=True)
class Record:
    """One sequence of a FASTA file.

    Attributes:
      title: the line after `>`; its first word is the name.
      sequence: letters as they stand there, without white space.
      line: number of the title's line, from 1.
      starts: how many letters stand before each line of the sequence.
      lines: the numbers of those lines.
    """

    title: str
    sequence: str
    line: int
    starts: tuple[int, ...]
    lines: tuple[int, ...]

    @property
    def name(self) -> str:
        """The first word of the title."""
        return self.title.split(maxsplit=1)[0] if self.title.split() else f"line-{self.line}"

    def line_of(self, residue: int) -> int:
        """The line in which residue number `residue`, from 0, stands."""
        return self.lines[bisect.bisect_right(self.starts, residue) - 1]


def read_fasta(lines: Iterable[str], *, source: str = "the input") -> Iterator[Record]:
    """The sequences of a FASTA text, one after another as they are read.

    Args:
      lines: of the text.
      source: what it is called in messages.

    Raises:
      ValueError: for letters before the first `>`.
    """
    title, opened = "", 0
    parts: list[str] = []
    starts: list[int] = []
    numbers: list[int] = []
    length = 0
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            if opened:
                yield Record(title, "".join(parts), opened, tuple(starts), tuple(numbers))
            title, opened, length = line[1:].strip(), number, 0
            parts, starts, numbers = [], [], []
            continue
        letters = "".join(line.split())
        if not letters or (line.startswith(";") and not length):  # a comment, as older files have it
            continue
        if not opened:
            raise ValueError(f"{source}, line {number}: {_shortened(letters)!r} comes before any title: FASTA begins a "
                             "sequence with a line such as '>name'")  # fmt: skip
        parts.append(letters)
        starts.append(length)
        numbers.append(number)
        length += len(letters)
    if opened:
        yield Record(title, "".join(parts), opened, tuple(starts), tuple(numbers))


def check_letters(record: Record, *, source: str = "the input") -> str:
    """The residues of `record` as upper-case letters of amino acids, known or unknown, without gaps.

    Raises:
      ValueError: for another letter, with its line, or for no residues.
    """
    letters = record.sequence.upper()
    for place, letter in enumerate(letters):
        if letter not in _MAY_STAND:
            raise ValueError(
                f"{source}, line {record.line_of(place)}: {record.sequence[place]!r} in {record.name} is no amino "
                f"acid: use {AMINO_ACIDS}, or X for one that is not known"
            )
    residues = "".join(letter for letter in letters if letter in _LETTERS)
    if not residues:
        raise ValueError(
            f"{source}, line {record.line}: {record.name} has no residues: leave it out, or give its sequence"
        )
    return residues


def typed(lines: Iterable[str]) -> Iterator[Record]:
    """Every line as a sequence of its own, as a person types them; empty lines and titles are passed over."""
    for number, line in enumerate(lines, start=1):
        letters = "".join(line.split())
        if letters and not letters.startswith(">"):
            yield Record(f"line-{number}", letters, number, (0,), (number,))


def checked_chunks(records: Iterable[Record], most: int) -> Iterator[list[tuple[Record, str]]]:
    """Records with their residues (see `check_letters`), together until they have `most` letters.

    Raises:
      ValueError: for a record that cannot be used, after those before it have been given.
    """
    chunk: list[tuple[Record, str]] = []
    letters = 0
    for record in records:
        try:
            chunk.append((record, check_letters(record)))
        except ValueError:
            if chunk:
                yield chunk
            raise
        letters += len(record.sequence)
        if letters >= most:
            yield chunk
            chunk, letters = [], 0
    if chunk:
        yield chunk


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else text[:17] + "..."
