"""Texts with a label each, from files, from TFDS, or generated: where they are, how labels are spelt.

A file is a table, tab-separated or CSV, plain or `.gz`: `label<TAB>text`, or any columns under a header that names
them. Read whole: text classification has no corpora of the size of translation's. Not for which columns a table has
(`labelled_columns`), nor for cleaning or tokens (`classify`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxformer.config import DataConfig
from jaxformer.data.csv_rows import csv_rows
from jaxformer.data.labelled_columns import NoLabelsError, check_labels, check_width, columns_of, is_csv, pattern
from jaxformer.data.sources import VALIDATION_NAMES
from jaxformer.data.text import read_lines
from jaxformer.paths import expanded

_LOGGER = logging.getLogger(__name__)

_SUFFIXES = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
_PREFIX = "__label__"
"""Before labels in the files of fastText."""

SENTIMENT = ("negative", "positive")
_WITHHELD = "-1"
"""What stands in place of labels that are kept back, in the test splits of GLUE for example."""
_SPELLINGS = {"negative": ("negative", "neg", "0", "-1", "-"), "positive": ("positive", "pos", "1", "+1", "+")}


class LabelledText(NamedTuple):
    """One record: its label as it is spelt, and its text."""

    label: str
    text: str


class LabelNames:
    """The classes of a data set, and the spellings that stand for each.

    In many data sets -1 says that a label is withheld: it is blame only where training uses it, and then 0 is not.

    Args:
      labels: spellings that occur in the training data; or `names` and `spellings` of another `LabelNames`.

    Attributes:
      names: of the classes, in the order of their numbers.
      spellings: what must be known besides `names` to read labels as here.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        found = {_plain(label) for label in labels}
        known = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
        # -1, 0 and 1 are three classes; 0 and 1, or -1 and 1, are blame and praise.
        sentiment = bool(found) and found <= set(known) and not {"-1", "0"} <= found
        del known["0" if _WITHHELD in found else _WITHHELD]
        self._names = known if sentiment else {label: label for label in found}
        self.names: tuple[str, ...] = SENTIMENT if sentiment else tuple(sorted(found))
        self.spellings: tuple[str, ...] = (_WITHHELD,) if sentiment and _WITHHELD in found else ()

    def number(self, label: str) -> int | None:
        """The number of a class; None for a label that is none of them."""
        name = self._names.get(_plain(label))
        return None if name is None else self.names.index(name)

    def withheld(self, labels: Sequence[str]) -> bool:
        """Whether all labels of a split are -1, which is none of the classes."""
        return bool(labels) and self.number(_WITHHELD) is None and {_plain(label) for label in labels} == {_WITHHELD}

    def numbers(self, split: str, labels: Sequence[str], places: Sequence[str] = ()) -> list[int]:
        """The number of each label of a split.

        Args:
          split: its name.
          labels: of its records.
          places: where each record stands, for messages; empty if that is not known.

        Raises:
          ValueError: for labels that never occur in the training data.
        """
        found = [self.number(label) for label in labels]
        strange = Counter(label for label, number in zip(labels, found, strict=True) if number is None)
        if strange:
            listed = ", ".join(f"{label!r} ({count} times)" for label, count in strange.most_common(5))
            first = f" (the first in {places[found.index(None)]})" if places else ""
            raise ValueError(
                f"the {split} split has labels that never occur in the training data: {listed}{first}; there are "
                f"{', '.join(self.names)}: mend the split, or name another one with --config.data.{split}"
            )
        return [number for number in found if number is not None]


def _plain(label: str) -> str:
    return label.strip().casefold().removeprefix(_PREFIX)


class TextSplit(NamedTuple):
    """The records of a split, how many empty lines were left out, and where each record stands, if in a file."""

    records: Sequence[LabelledText]
    empty_lines: int
    places: Sequence[str] = ()


def read_table(path: Path) -> TextSplit:
    """The records of one file; empty lines are left out.

    Raises:
      NoLabelsError: if it has no labels.
      ValueError: for missing columns or a row of too few or too many, by line; for a header that is not known, or texts
        where labels should be; for binary or wrongly encoded text, or quotes that do not match.
      OSError: if it cannot be read.
    """
    lines = read_lines(path)
    if is_csv(path):
        rows = list(csv_rows(lines, path))
    else:
        rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1)]
    filled = [(number, row) for number, row in rows if any(cell.strip() for cell in row)]
    if not filled:
        raise ValueError(f"{path} is empty: it needs a line `{pattern(path)}` for each record")
    first = filled[0][1]
    columns = columns_of(path, first)
    records, places = [], []
    for number, row in filled[columns.header :]:
        check_width(path, number, row, columns, first)
        records.append(LabelledText(row[columns.label].strip(), row[columns.text]))
        places.append(f"{path}, line {number}")
    if not columns.header:
        check_labels(path, [record.label for record in records])
    return TextSplit(records, len(rows) - len(filled), places)


def open_texts(config: DataConfig, *, train: bool = True) -> dict[str, TextSplit]:
    """The splits of `config`: `train`, and `validation` and `test` where they exist.

    Args:
      config: says where they are; several files of one split are separated by commas, `train=train,train_phrases`.
      train: whether the training split is read, and must be there.

    Raises:
      ValueError, OSError: for what is not there or cannot be used, with what was looked for.
    """
    if config.source == "bundled":
        return _bundled(config, train=train)
    if config.source == "tfds":
        from jaxformer.data.tfds import open_labelled

        return {
            name: TextSplit([LabelledText(pair.source, pair.target) for pair in source.read(0, _most(config, name))], 0)
            for name, source in open_labelled(config).items()
            if train or name != "train"
        }
    return _files(config, train=train)


def _most(config: DataConfig, split: str) -> int:
    return config.num_examples if split == "train" and config.num_examples else 1 << 62


def _bundled(config: DataConfig, *, train: bool) -> dict[str, TextSplit]:
    from jaxformer.data.bundled.opinions import OpinionCorpus

    sizes = {"train": config.num_examples, "validation": 0, "test": 0}
    return {
        split: TextSplit([LabelledText(*record) for record in OpinionCorpus(split, size, config.seed)[:]], 0)
        for split, size in sizes.items()
        if train or split != "train"
    }


def _files(config: DataConfig, *, train: bool) -> dict[str, TextSplit]:
    if not config.path:
        raise ValueError("data.source=files needs a folder of labelled text: set --config.data.path=DIR")
    folder = expanded(config.path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"data.path={config.path} {what}: name the folder that holds train.tsv, dev.tsv, ...")
    found = {
        "train": _named(folder, config.train or "train", "train", needed=train) if train else [],
        "validation": _named(folder, config.validation, "validation", needed=True)
        if config.validation
        else _first(folder, VALIDATION_NAMES),
        "test": _named(folder, config.test or "test", "test", needed=bool(config.test)),
    }
    splits = {}
    for name, paths in found.items():
        try:
            tables = [read_table(path) for path in paths]
        except NoLabelsError as error:
            if name != "test" or config.test:
                raise
            _LOGGER.warning("the test split is left out: %s", error)
            continue
        if tables:
            records = [record for table in tables for record in table.records]
            places = [place for table in tables for place in table.places]
            splits[name] = TextSplit(records[: _most(config, name)], sum(table.empty_lines for table in tables), places)
    if not set(splits) - {"train"}:
        raise FileNotFoundError(
            f"no validation or test split in {folder}: name one with --config.data.validation or --config.data.test"
        )
    return splits


def _first(folder: Path, stems: Sequence[str]) -> list[Path]:
    return next((paths for stem in stems if (paths := _named(folder, stem, "", needed=False))), [])


def _named(folder: Path, names: str, split: str, *, needed: bool) -> list[Path]:
    """The file of each stem in `names`, separated by commas."""
    found = []
    for stem in filter(None, (name.strip() for name in names.split(","))):
        given = folder / expanded(stem)
        candidates = [given] if given.is_file() else [Path(f"{given}{suffix}") for suffix in _SUFFIXES]
        path = next((path for path in candidates if path.is_file()), None)
        if path is not None:
            found.append(path)
        elif needed:
            there = ", ".join(sorted(file.name for file in folder.iterdir() if file.is_file())[:20]) or "no files"
            raise FileNotFoundError(
                f"no {split} split: looked for {given.name} with one of {', '.join(_SUFFIXES)}; {folder} holds {there}"
                f"; name it with --config.data.{split}"
            )
    return found
