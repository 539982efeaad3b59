"""From labelled texts to what a classifier reads: clean, learn the vocabulary, tokenise; every change counted.

In memory, and made again by every run: a hundred thousand sentences take a few seconds. Not for reading
(`labelled_text`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from jaxformer.config import DataConfig
from jaxformer.data.cleaning import Cleaner, has_text
from jaxformer.data.given_vocabulary import given_tokenizer, warn_of_unknown
from jaxformer.data.labelled import LabelledDataset, Labels
from jaxformer.data.labelled_text import LabelNames, TextSplit, open_texts
from jaxformer.data.spelling import Spelling
from jaxformer.data.tokenizer import Tokenizer, train_text_tokenizer
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID, SPELLING_SIZE

LABEL = "label"
"""The name of what is predicted."""


@dataclasses.dataclass
class TextReport:
    """How many training texts were read, dropped by each rule, kept, and changed.

    Attributes:
      read: lines that are no header.
      empty_lines, empty: lines without anything, and without text.
      repeated, contradictory: texts that occurred before, with the same label and with another one.
      unicode, control, spaces: texts changed, as in `cleaning.CleaningReport`.
      cut: texts longer than `data.max_length` tokens, of which the beginning is used.
    """

    read: int = 0
    empty_lines: int = 0
    empty: int = 0
    repeated: int = 0
    contradictory: int = 0
    unicode: int = 0
    control: int = 0
    spaces: int = 0
    cut: int = 0

    @property
    def kept(self) -> int:
        """Texts that broke no rule."""
        return self.read - self.empty_lines - self.empty - self.repeated - self.contradictory

    def table(self, names: Sequence[str], counts: Sequence[float]) -> str:
        """The report as plain text, one rule a line, with how many texts each class has."""
        rows = [
            ("texts read", self.read),
            ("dropped: empty line", self.empty_lines),
            ("dropped: no text", self.empty),
            ("dropped: exact repetition", self.repeated),
            ("dropped: repetition with another label", self.contradictory),
            ("texts kept", self.kept),
            *((f"  {name}", int(count)) for name, count in zip(names, counts, strict=True)),
            ("changed: Unicode normalised", self.unicode),
            ("changed: control characters removed", self.control),
            ("changed: spaces trimmed", self.spaces),
            ("changed: cut to max_length tokens", self.cut),
        ]
        width = max(len(label) for label, _ in rows)
        total = max(self.read, 1)
        return "\n".join(f"{label:<{width}}  {count:>11,}  {100 * count / total:6.2f} %" for label, count in rows)


@dataclasses.dataclass(frozen=True)
class ClassifiedTexts:
    """Texts with the number of each one's class, and as records."""

    texts: list[str]
    classes: list[int]
    records: LabelledDataset


@dataclasses.dataclass(frozen=True)
class PreparedTexts:
    """A data set ready for training a classifier.

    Attributes:
      tokenizer: learnt from the training texts.
      names: of the classes.
      spellings: of `LabelNames`.
      counts: training texts of each.
      train: the training texts.
      splits: `validation` and `test`, those that there are.
      report: the cleaning table of the training split.
    """

    tokenizer: Tokenizer
    names: tuple[str, ...]
    spellings: tuple[str, ...]
    counts: list[int]
    train: ClassifiedTexts
    splits: dict[str, ClassifiedTexts]
    report: str


class TextEncoder:
    """Texts to rows of tokens, the same in training and afterwards.

    Args:
      tokenizer: of the run.
      config: `normalization`, `max_length` and `spelling` are read.
      first: whether a token of its own stands before each text, for a classifier that looks at it alone.
    """

    def __init__(self, tokenizer: Tokenizer, config: DataConfig, *, first: bool) -> None:
        self._tokenizer, self._cleaner, self._limit, self._first = tokenizer, Cleaner(config), config.max_length, first
        self._spelling = Spelling(tokenizer.source_vocabulary_size, config.spelling) if config.spelling else None

    def normalize(self, text: str) -> tuple[str, set[str]]:
        """The text as it is tokenised, and what changed."""
        return self._cleaner.normalize(text)

    def __call__(self, texts: Sequence[str]) -> tuple[list[np.ndarray], list[int]]:
        """Tokens of normalised texts, each ending in the end of sentence, and the places of those that were cut.

        A text of S tokens is int32 [S], or [S, 1 + SPELLING_SIZE] where words are spelt too: see `types.Sequences`.
        """
        rows = self._tokenizer.encode_source(texts)
        rows = [[BOS_ID, *row] for row in rows] if self._first else rows
        long = [place for place, row in enumerate(rows) if len(row) > self._limit]
        for place in long:
            rows[place] = [*rows[place][: self._limit - 1], EOS_ID]
        arrays = [np.asarray(row, np.int32) for row in rows]
        return self._spelt(texts, arrays) if self._spelling else arrays, long

    def _spelt(self, texts: Sequence[str], rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows [S] of `texts` with the spelling of every word beside its token; beginning and end have none."""
        assert self._spelling is not None
        found = []
        for row, words in zip(rows, self._tokenizer.source_pieces(texts), strict=True):
            whole = np.full((len(row), 1 + SPELLING_SIZE), PAD_ID, np.int32)
            whole[:, 0] = row
            for place, word in zip(range(self._first, len(row) - 1), words, strict=False):
                whole[place, 1:] = self._spelling(word)
            found.append(whole)
        return found

    def records(self, rows: Sequence[np.ndarray], classes: Sequence[int]) -> LabelledDataset:
        """Rows with their classes."""
        return LabelledDataset.from_lists(rows, {LABEL: Labels.records(np.asarray(classes, np.int32))})


def prepare_texts(config: DataConfig, *, first: bool) -> PreparedTexts:
    """Reads the splits of `config`, cleans the training texts, learns the vocabulary and tokenises.

    Args:
      config: of the data.
      first: see `TextEncoder`.

    Raises:
      ValueError: for texts or labels that cannot be used: no text at all, or a single class.
      OSError: for files that cannot be read.
    """
    splits = open_texts(config)
    report = TextReport()
    texts, labels = _cleaned(splits["train"], config, report)
    if not texts:
        raise ValueError(f"the training split has no usable text:\n{report.table((), ())}")
    names = LabelNames(labels)
    classes = names.numbers("train", labels)
    counts = np.bincount(classes, minlength=len(names.names)).tolist()
    _check_counts(names.names, counts)
    tokenizer = given_tokenizer(config, sides=1) if config.vocabulary else train_text_tokenizer(texts, config)
    encoder = TextEncoder(tokenizer, config, first=first)
    rows, long = encoder(texts)
    warn_of_unknown(config, np.concatenate([row if row.ndim == 1 else row[:, 0] for row in rows]))
    report.cut = len(long)
    train = ClassifiedTexts(texts, classes, encoder.records(rows, classes))
    held_back = all_classified(splits, encoder, names)
    known = set(texts)
    for name, split in held_back.items():
        if seen := sum(text in known for text in split.texts):
            logging.warning(
                "%d of the %d texts of the %s split are in the training split too: its scores flatter the model",
                seen, len(split.texts), name,
            )  # fmt: skip
    table = report.table(names.names, counts)
    return PreparedTexts(tokenizer, names.names, names.spellings, counts, train, held_back, table)


def _check_counts(names: Sequence[str], counts: Sequence[int]) -> None:
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if len(names) < 2 or missing:
        there = next(name for name, count in zip(names, counts, strict=True) if count)
        raise ValueError(
            f"all {sum(counts):,} training texts have the label {there!r}: a classifier needs texts of two classes or "
            "more; look at the label column of the training split"
        )


def _cleaned(split: TextSplit, config: DataConfig, report: TextReport) -> tuple[list[str], list[str]]:
    """Texts and labels of the training records that break no rule."""
    cleaner, seen = Cleaner(config), dict[str, str]()
    texts, labels = [], []
    report.read, report.empty_lines = len(split.records) + split.empty_lines, split.empty_lines
    for label, text in split.records:
        text, changes = cleaner.normalize(text)
        for change in changes:
            setattr(report, change, getattr(report, change) + 1)
        if not has_text(text) or not label:
            report.empty += 1
        elif config.deduplicate and text in seen:
            if seen[text] == label:
                report.repeated += 1
            else:
                report.contradictory += 1
        else:
            seen[text] = label
            texts.append(text)
            labels.append(label)
    return texts, labels


def all_classified(
    splits: Mapping[str, TextSplit], encoder: TextEncoder, names: LabelNames
) -> dict[str, ClassifiedTexts]:
    """The evaluation splits among `splits`; those whose labels are withheld are left out, with a warning.

    Raises:
      ValueError: as `classified`.
    """
    found = {}
    for name, split in splits.items():
        if name == "train":
            continue
        if names.withheld([record.label for record in split.records]):
            logging.warning(
                "the %s split is left out: all its %d labels are -1, which is no class of the training data but says "
                "that they are withheld; name another with --config.data.%s", name, len(split.records), name,
            )  # fmt: skip
        else:
            found[name] = classified(name, split, encoder, names)
    return found


def classified(name: str, split: TextSplit, encoder: TextEncoder, names: LabelNames) -> ClassifiedTexts:
    """An evaluation split: every record counts; without text it is an end of sentence alone.

    Raises:
      ValueError: for labels that the training data does not have, or no record at all.
    """
    if not split.records:
        raise ValueError(f"the {name} split has no record: name another with --config.data.{name}")
    texts = [encoder.normalize(record.text)[0] for record in split.records]
    classes = names.numbers(name, [record.label for record in split.records], split.places)
    absent = [one for number, one in enumerate(names.names) if number not in set(classes)]
    if absent:
        logging.warning("the %s split has no text of class %s: scores of it mean little", name, ", ".join(absent))
    rows, long = encoder(texts)
    if long:
        logging.warning("%d of %d texts of the %s split are cut to their beginning", len(long), len(texts), name)
    return ClassifiedTexts(texts, classes, encoder.records(rows, classes))
