"""Chains with labels as a table: a line of column names, then one chain a line, its cells separated by tabs.

Columns: `id`, `seq`, and `ss3` or `ss8` or both; `mask` (1 for a residue that is scored) and `rsa` (relative solvent
accessibilities separated by commas, shares from 0 to 1, `nan` for unknown ones) may be added, in any order: the data of
NetSurfP-2, for example.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from jaxformer.data.proteins.alphabet import to_eight_states
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.text import open_text

COLUMNS = ("id", "seq", "ss3", "ss8", "mask", "rsa")
_MOST_ACCESSIBLE = 2.0
"""Shares may exceed 1 a little, by the area that they are of; what is more than this is in per cent."""


def read_tsv(path: str | os.PathLike[str]) -> Iterator[Chain]:
    """The chains of a table, as they stand there.

    Raises:
      ValueError: for missing columns or cells, or one that cannot be read, with its line and column.
      OSError: if the file cannot be read.
    """
    with open_text(path) as file:
        names = file.readline().rstrip("\n").split("\t")
        missing = [name for name in ("id", "seq") if name not in names]
        if missing or not {"ss3", "ss8"} & set(names):
            wanted = ", ".join(missing) or "ss3 or ss8"
            raise ValueError(
                f"{path}: no column {wanted} among {', '.join(names)[:100]}: its first line must name the columns id, "
                "seq and ss3 or ss8 (mask and rsa may be added), separated by tabs"
            )
        doubled = [name for name in COLUMNS if names.count(name) > 1]
        if doubled:
            raise ValueError(f"{path} names the column {doubled[0]} twice: rename one of them in the first line")
        for number, line in enumerate(file, start=2):
            text = line.rstrip("\n")
            if not text.strip():
                continue
            cells = text.split("\t")
            if len(cells) != len(names):
                raise ValueError(f"{path}, line {number}: {len(cells)} cells, but {len(names)} columns are named")
            yield _chain(dict(zip(names, cells, strict=True)), f"{path}, line {number}")


def _chain(cells: dict[str, str], place: str) -> Chain:
    return Chain(
        name=cells["id"],
        sequence=cells["seq"],
        three=to_eight_states(cells.get("ss3", "")),
        eight=to_eight_states(cells.get("ss8", "")),
        accessibility=_numbers(cells["rsa"], place) if cells.get("rsa") else None,
        scored=_mask(cells["mask"], place) if "mask" in cells else None,
        place=place,
    )


def _numbers(cell: str, place: str) -> np.ndarray:
    try:
        shares = np.array([float(number) for number in cell.split(",")], np.float32)
    except ValueError:
        raise ValueError(f"{place}: column rsa holds {cell[:40]!r}: give numbers separated by commas") from None
    if (wrong := (shares < 0) | (shares > _MOST_ACCESSIBLE)).any():
        raise ValueError(f"{place}: column rsa holds {shares[wrong][0]:g}: give shares from 0 to 1, not per cent")
    return np.minimum(shares, 1.0)


def _mask(cell: str, place: str) -> np.ndarray:
    if set(cell) - {"0", "1"}:
        wrong = next(letter for letter in cell if letter not in "01")
        raise ValueError(f"{place}: column mask holds {wrong!r}: give 0 or 1 for each residue")
    return np.frombuffer(cell.encode(), np.uint8) == ord("1")
