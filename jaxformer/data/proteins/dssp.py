"""DSSP's classic output (`.dssp`), read by Biopython; alone, or with the whole sequences from FASTA.

DSSP lists resolved residues only. With the sequence that was in the experiment beside it, what was not resolved can be
given to a network, and left out of scores. DSSP's newer output, annotated mmCIF, is read by `mmcif`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import numpy as np

from jaxformer.data.proteins.alphabet import AMINO_ACIDS, to_eight_states, to_three_states
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.fasta import Record
from jaxformer.data.proteins.files import stem

_RCSB = re.compile(r"(\w+)_\d+\|Chains? ([^|,\[\s]+)(?:\[auth ([^]]+)\])?")
"""An entry, its first chain, and the author's name of that chain where it is another."""
_LEAST_IDENTITY = 0.9


def relative_accessibility(sequence: str, areas: Iterable[float]) -> np.ndarray:
    """Areas in square angstrom as shares of the largest possible, float32 [S], at most 1; nan for unknown residues.

    The largest are the theoretical ones of Tien et al. 2013, table 1, as Biopython has them.
    """
    from Bio.Data.PDBData import protein_letters_1to3
    from Bio.PDB.DSSP import residue_max_acc

    largest = {one: residue_max_acc["Wilke"][protein_letters_1to3[one].upper()] for one in AMINO_ACIDS}
    shares = [area / largest.get(letter, np.nan) for letter, area in zip(sequence, areas, strict=True)]
    return np.minimum(np.array(shares, np.float32), 1.0)


def read_dssp(path: str | os.PathLike[str]) -> list[Chain]:
    """The chains of a `.dssp` file, each as its resolved residues one after another.

    Raises:
      ValueError: if it holds no residues, or cannot be read as DSSP.
      OSError: if it cannot be opened.
    """
    from Bio.PDB.DSSP import make_dssp_dict

    try:
        residues, order = make_dssp_dict(os.fspath(path))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} cannot be read as classic DSSP output ({error}): make it again with mkdssp") from None
    if not order:
        raise ValueError(f"{path} holds no residues: is it DSSP's classic output? Annotated mmCIF must be named .cif")
    found: dict[str, list[tuple[str, str, float]]] = {}
    for key in order:
        letter, structure, area = residues[key][:3]
        # DSSP writes both halves of a disulfide bridge as the same small letter.
        found.setdefault(key[0], []).append(("C" if letter.islower() else letter, structure, float(area)))
    return [_chain(f"{stem(path)}-{name}", rows, os.fspath(path)) for name, rows in found.items()]


def _chain(name: str, rows: list[tuple[str, str, float]], path: str) -> Chain:
    sequence = "".join(letter for letter, _, _ in rows)
    eight = to_eight_states("".join(structure for _, structure, _ in rows))
    areas = relative_accessibility(sequence, (area for _, _, area in rows))
    return Chain(name, sequence, to_three_states(eight), eight, areas, place=f"{path}, chain {name.rpartition('-')[2]}")


def with_whole_sequences(resolved: Iterable[Chain], records: Iterable[Record]) -> Iterator[Chain]:
    """The chains of FASTA `records`, with labels from the `resolved` chain of the same name where they align.

    `1CBS_A`, `1cbs:A`, `1CBS_1|Chain A|...` and `1CBS_1|Chain B[auth A]|...` all name chain A of 1cbs: classic DSSP has
    the names that authors gave. A record without such a chain, or one that differs from it in more than a tenth of the
    residues, comes without labels: cleaning counts it.
    """
    known = {_key(chain.name): chain for chain in resolved}
    for record in records:
        chain = known.get(_key(record.title))
        sequence = record.sequence.upper()
        place = f"{record.name} (line {record.line} of the FASTA file)"
        whole = _aligned(record.name, sequence, chain, place) if chain and sequence else None
        yield whole or Chain(record.name, sequence, place=place)


def _key(title: str) -> str:
    named = _RCSB.match(title)
    if named:
        entry, chain = named[1], named[3] or named[2]
    else:
        entry, chain = re.split(r"[-_:|\s]", title + "--", maxsplit=2)[:2]
    return f"{entry.lower()}-{chain}"


def _aligned(name: str, sequence: str, chain: Chain, place: str) -> Chain | None:
    """The labels of `chain` at their residues of `sequence`; None where these are not the same protein."""
    from Bio.Align import PairwiseAligner

    aligner = PairwiseAligner(mode="global", match_score=2, mismatch_score=-3, open_gap_score=-2, extend_gap_score=-0.1)
    aligner.end_gap_score = 0.0
    pairs = [
        (here + i, there + i)
        for (here, end), (there, _) in zip(*aligner.align(sequence, chain.sequence)[0].aligned, strict=True)
        for i in range(end - here)
    ]
    same = sum(sequence[here] == chain.sequence[there] for here, there in pairs)
    if same < _LEAST_IDENTITY * len(chain):
        return None
    here, there = np.array(pairs).T
    eight = np.full(len(sequence), "C")
    eight[here] = np.array(list(chain.eight))[there]
    scored = np.zeros(len(sequence), bool)
    scored[here] = True
    areas = np.full(len(sequence), np.nan, np.float32)
    assert chain.accessibility is not None
    areas[here] = chain.accessibility[there]
    letters = "".join(eight)
    return Chain(name, sequence, to_three_states(letters), letters, areas, scored, place=place)
