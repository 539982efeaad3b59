"""mmCIF files with the structure of their chains annotated, read by Biopython.

`mkdssp` writes such files: since version 4.2 with a row for each residue (`_dssp_struct_summary`), before with ranges
(`_struct_conf` of criteria DSSP). A file from the PDB itself has the helices and sheets of its depositors, which follow
other rules; its chains are marked so, and have three states only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxformer.data.proteins.alphabet import to_eight_states, to_three_states
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.dssp import relative_accessibility
from jaxformer.data.proteins.files import stem
from jaxformer.data.text import open_text

_Columns = Mapping[str, list[str]]

_RANGES = {
    "HELX_RH_AL_P": "H", "HELX_RH_3T_P": "G", "HELX_RH_PI_P": "I", "HELX_LH_PP_P": "C", "STRN": "E", "TURN_TY1_P": "T",
    "BEND": "S", "OTHER": "C",
}  # fmt: skip
_UNKNOWN = ("?", ".")


class _Residue(NamedTuple):
    """Of a polymer, whether it was resolved or not."""

    number: str
    letter: str
    resolved: bool


def read_mmcif(path: str | os.PathLike[str]) -> list[Chain]:
    """The protein chains of an mmCIF file, unresolved residues included.

    Raises:
      ValueError: if it is no mmCIF, or has no protein or no annotation of its structure.
      OSError: if it cannot be opened.
    """
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

    with open_text(path) as file:
        try:
            columns: _Columns = MMCIF2Dict(file)
        except (ValueError, KeyError, IndexError, StopIteration) as error:
            raise ValueError(f"{path} cannot be read as mmCIF ({error})") from None
    chains = _polymers(columns)
    if not chains:
        raise ValueError(f"{path} holds no protein chain: looked for _pdbx_poly_seq_scheme and _dssp_struct_summary")
    entry = (columns.get("_entry.id") or [stem(path)])[0].lower()
    try:
        summary, ranges = _summary(columns), dict(_ranges(columns))
    except ValueError as error:  # a cell that is no number
        raise ValueError(f"{path} cannot be read as mmCIF ({error})") from None
    by_dssp = bool(summary) or "DSSP" in columns.get("_struct_conf_type.criteria", [])
    if not summary and not ranges:
        raise ValueError(f"{path} tells no secondary structure: annotate it with `mkdssp --output-format mmcif`")
    found = []
    for (asym, strand), residues in chains.items():
        sequence = "".join(residue.letter for residue in residues)
        labels = [summary.get((asym, residue.number)) for residue in residues]
        letters = "".join(
            label[0] if label else ranges.get((asym, residue.number), "C")
            for label, residue in zip(labels, residues, strict=True)
        )
        eight = to_eight_states(letters)
        found_areas = (label[1] if label else np.nan for label in labels)
        areas = relative_accessibility(sequence, found_areas) if summary else None
        # What DSSP left out of its table, for want of atoms of the backbone, is not coil but unknown.
        known = (not summary or label is not None for label in labels)
        resolved = np.array([residue.resolved and told for residue, told in zip(residues, known, strict=True)])
        name, place = f"{entry}-{strand}", f"{path}, chain {strand}"
        three, kept = to_three_states(eight), eight if by_dssp else ""
        found.append(Chain(name, sequence, three, kept, areas, resolved, by_dssp, place))
    return found


def _rows(columns: _Columns, category: str, *names: str) -> Iterator[tuple[str, ...]]:
    """Rows of a category; of a column that is not there, every cell is unknown."""
    size = max((len(columns.get(f"_{category}.{name}", [])) for name in names), default=0)
    return zip(*(columns.get(f"_{category}.{name}", ["?"] * size) for name in names), strict=True)


def _polymers(columns: _Columns) -> dict[tuple[str, str], list[_Residue]]:
    """Residues by (label, author's name) of their chain; of alternatives at one place, the first."""
    types = {row[0]: row[1] for row in _rows(columns, "entity_poly", "entity_id", "type")}
    chains: dict[tuple[str, str], dict[str, _Residue]] = {}
    names = ("asym_id", "entity_id", "seq_id", "mon_id", "auth_mon_id", "pdb_strand_id")
    for asym, entity, number, residue, seen, strand in _rows(columns, "pdbx_poly_seq_scheme", *names):
        if types.get(entity, "polypeptide").startswith("polypeptide"):
            chain = chains.setdefault((asym, asym if strand in _UNKNOWN else strand), {})
            chain.setdefault(number, _Residue(number, _one_letter(residue), seen not in _UNKNOWN))
    if not chains:  # made from a PDB file, which has no such table
        for asym, number, residue in _rows(
            columns, "dssp_struct_summary", "label_asym_id", "label_seq_id", "label_comp_id"
        ):
            chains.setdefault((asym, asym), {}).setdefault(number, _Residue(number, _one_letter(residue), True))
    return {name: list(chain.values()) for name, chain in chains.items()}


def _one_letter(residue: str) -> str:
    """Of a residue's three-letter code, a modified one as what it was made from; X for what nobody knows."""
    from Bio.Data.PDBData import protein_letters_3to1_extended

    letter = protein_letters_3to1_extended.get(residue, "X")
    return letter if len(letter) == 1 else "X"


def _summary(columns: _Columns) -> dict[tuple[str, str], tuple[str, float]]:
    """(structure, area) by (chain, residue number)."""
    names = ("label_asym_id", "label_seq_id", "secondary_structure", "accessibility")
    return {
        (asym, number): (structure.replace("?", "."), float("nan") if area in _UNKNOWN else float(area))
        for asym, number, structure, area in _rows(columns, "dssp_struct_summary", *names)
    }


def _ranges(columns: _Columns) -> Iterator[tuple[tuple[str, str], str]]:
    """Structure by (chain, residue number), from ranges of residues."""
    ends = ("beg_label_asym_id", "beg_label_seq_id", "end_label_seq_id")
    for asym, first, last in _rows(columns, "struct_sheet_range", *ends):
        yield from _range(asym, first, last, "E")
    for kind, asym, first, last in _rows(columns, "struct_conf", "conf_type_id", *ends):
        # Bridges are written as strands; a strand has two residues at least.
        letter = "B" if kind == "STRN" and first == last else _RANGES.get(kind, "H" if kind.startswith("HELX") else "C")
        yield from _range(asym, first, last, letter)


def _range(asym: str, first: str, last: str, letter: str) -> Iterator[tuple[tuple[str, str], str]]:
    if first not in _UNKNOWN and last not in _UNKNOWN:
        yield from (((asym, str(number)), letter) for number in range(int(first), int(last) + 1))
