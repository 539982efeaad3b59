"""Cleaning of sentence pairs, every rule counted: normalisation that changes text, filters that drop pairs.

Training pairs pass through both; evaluation pairs are normalised but never dropped, because a score is over every
line. Cleaning streams: it keeps counts, never text. Length in tokens and repetition are judged where the tokens and all
pairs are known (`prepare.py`), and counted in the same report. Not for tokenisation (Moses and the like): sentencepiece
reads plain text.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable

from jaxformer.config import DataConfig
from jaxformer.types import Pair

# White space that breaks lines or columns becomes a space; other control characters (C0, C1), the zero-width space and
# stray byte-order marks are removed. Joiners and direction marks stay: some scripts need them.
_SPACES = re.compile("[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\ufeff]")
_CONTROL_OR_SPACE = re.compile(_SPACES.pattern[:-1] + _CONTROLS.pattern[1:])
_RUNS = re.compile("  +")
_VISIBLE = re.compile(  # but for white space, soft hyphens, joiners, fillers, direction marks and variation selectors
    r"[^\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_UNSPACED = re.compile(  # Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

_RULES = {
    "empty": "empty side",
    "length_ratio": "length ratio over the limit",
    "too_long": "longer than max_length tokens",
    "duplicates": "exact repetition",
}
_CHANGES = {
    "unicode": "Unicode normalised",
    "control": "control characters removed",
    "spaces": "spaces trimmed",
}


@dataclasses.dataclass
class CleaningReport:
    """How many pairs were read, dropped by each rule, kept, and changed; pairs, not sides, are counted.

    Attributes:
      read: pairs read.
      empty, length_ratio, too_long, duplicates: pairs dropped, each counted under the first rule that it broke.
      unicode, control, spaces: pairs changed, dropped ones included; a pair may count under several.
    """

    read: int = 0
    empty: int = 0
    length_ratio: int = 0
    too_long: int = 0
    duplicates: int = 0
    unicode: int = 0
    control: int = 0
    spaces: int = 0

    @property
    def kept(self) -> int:
        """Pairs that broke no rule."""
        return self.read - sum(getattr(self, rule) for rule in _RULES)

    def add(self, other: CleaningReport) -> None:
        """Adds the counts of `other`."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def table(self) -> str:
        """The report as plain text, one rule a line."""
        rows = [("pairs read", self.read)]
        rows += [(f"dropped: {label}", getattr(self, rule)) for rule, label in _RULES.items()]
        rows += [("pairs kept", self.kept)]
        rows += [(f"changed: {label}", getattr(self, rule)) for rule, label in _CHANGES.items()]
        width = max(len(label) for label, _ in rows)
        total = max(self.read, 1)
        return "\n".join(f"{label:<{width}}  {count:>11,}  {100 * count / total:6.2f} %" for label, count in rows)


def has_text(text: str) -> bool:
    """Whether there is anything in `text` that a reader sees: spaces and what Unicode calls ignorable are nothing."""
    return _VISIBLE.search(text) is not None


class Cleaner:
    """Normalises and filters pairs by the rules of a `DataConfig`, counting in `report`.

    Attributes:
      report: the counts so far.
    """

    def __init__(self, config: DataConfig) -> None:
        self._form = None if config.normalization == "none" else config.normalization.upper()
        self._max_ratio = config.max_length_ratio
        self.report = CleaningReport()

    def normalize(self, text: str) -> tuple[str, set[str]]:
        """`text` in the configured Unicode form, without control characters and surplus spaces, and what changed.

        Of its own result it changes nothing.
        """
        changes: set[str] = set()
        if not text.isprintable() and _CONTROL_OR_SPACE.search(text):  # first: they may part a letter from its accent
            text = _CONTROLS.sub("", _SPACES.sub(" ", text))
            changes.add("control")
        if self._form and not text.isascii() and not unicodedata.is_normalized(self._form, text):  # type: ignore[arg-type]
            text = unicodedata.normalize(self._form, text)  # type: ignore[arg-type]
            changes.add("unicode")
        if text[:1] == " " or text[-1:] == " " or "  " in text:
            text = _RUNS.sub(" ", text.strip(" "))
            changes.add("spaces")
        return text, changes

    def normalize_pair(self, pair: Pair) -> Pair:
        """`pair` with both sides normalised, counted but never dropped."""
        self.report.read += 1
        source, source_changes = self.normalize(pair.source)
        target, target_changes = self.normalize(pair.target)
        for change in source_changes | target_changes:
            setattr(self.report, change, getattr(self.report, change) + 1)
        return Pair(source, target)

    def clean(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The training pairs among `pairs` that break no rule, normalised."""
        kept = []
        for pair in pairs:
            pair = self.normalize_pair(pair)
            if not has_text(pair.source) or not has_text(pair.target):
                self.report.empty += 1
            elif self._max_ratio and self._ratio(pair) > self._max_ratio:
                self.report.length_ratio += 1
            else:
                kept.append(pair)
        return kept

    def evaluation_pair(self, pair: Pair) -> Pair:
        """`pair` with its source normalised as in training; of the reference, nothing changes that a reader sees.

        NFKC turns an ellipsis into three dots, for example: scores against such a reference would not be those of the
        file.
        """
        return Pair(self.normalize(pair.source)[0], self._reference.normalize(pair.target)[0])

    @functools.cached_property
    def _reference(self) -> Cleaner:
        form = "none" if self._form is None else "nfc"
        return Cleaner(DataConfig(normalization=form))

    @staticmethod
    def _ratio(pair: Pair) -> float:
        shorter, longer = sorted((_num_words(pair.source), _num_words(pair.target)))
        return longer / max(shorter, 1)


def _num_words(text: str) -> float:
    """Words between spaces; in scripts without spaces, half as many as there are letters."""
    words = len(text.split())
    return words if text.isascii() else words + len(_UNSPACED.findall(text)) / 2
