"""A corpus of opinions, made by a small grammar: is it praise or blame?

Counting words is not enough: negation turns a word round ("is far from boring"), and of two opinions the one that the
sentence stands by decides ("although the cast is superb, the plot is dull" is blame). Record i is a pure function of
(seed, split, i); no text occurs in two splits. Not for evaluating what real opinions need.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from jaxformer.data.bundled.draw import Draw

NAMES = ("negative", "positive")
DEFAULT_SIZES = {"train": 12_000, "validation": 500, "test": 1_000}
_REMAINDERS = {"validation": (0,), "test": (1, 2), "train": tuple(range(3, 32))}

_ASPECTS = (
    "film", "plot", "acting", "cast", "music", "script", "ending", "dialogue", "camera work", "story", "humor",
    "pacing", "opening", "soundtrack", "lead", "villain", "romance", "second half",
)  # fmt: skip
_ADJECTIVES = (
    (
        "dull", "boring", "clumsy", "lifeless", "predictable", "tedious", "shallow", "forgettable", "awful", "bland",
        "hollow", "tiresome", "messy", "pointless", "stale", "annoying", "lazy", "dreadful",
    ),
    (
        "superb", "moving", "clever", "funny", "gripping", "charming", "fresh", "brilliant", "warm", "delightful",
        "witty", "thrilling", "elegant", "touching", "inventive", "splendid", "honest", "memorable",
    ),
)  # fmt: skip
_VERBS = (("hated", "regretted", "disliked", "loathed"), ("loved", "enjoyed", "admired", "adored"))
_INFINITIVES = (("hate", "regret", "dislike", "loathe"), ("love", "enjoy", "admire", "adore"))
_DEGREES = ("", "", "", "very ", "truly ", "rather ", "simply ", "surprisingly ", "deeply ")
_NEGATIONS = ("not ", "never ", "hardly ", "far from ", "anything but ", "not at all ")
_WHO = ("i", "we", "the audience", "my friends")


def _clause(draw: Draw, positive: int) -> str:
    """One opinion."""
    aspect, other = draw.pick(_ASPECTS), 1 - positive
    match draw.below(10):
        case 0 | 1 | 2 | 3:
            return f"the {aspect} is {draw.pick(_DEGREES)}{draw.pick(_ADJECTIVES[positive])}"
        case 4 | 5 | 6:
            return f"{draw.pick(_WHO)} {draw.pick(_VERBS[positive])} the {aspect}"
        case 7:
            return f"the {aspect} is {draw.pick(_NEGATIONS)}{draw.pick(_ADJECTIVES[other])}"
        case 8:
            return f"{draw.pick(_WHO)} did not {draw.pick(_INFINITIVES[other])} the {aspect}"
        case _:
            return f"nobody could call the {aspect} {draw.pick(_ADJECTIVES[other])}"


def opinion(draw: Draw) -> tuple[str, str]:
    """A label, one of `NAMES`, and a sentence."""
    positive = draw.below(2)
    other = 1 - positive
    match draw.below(10):
        case 0 | 1 | 2:
            text = _clause(draw, positive)
        case 3 | 4:
            text = f"{_clause(draw, positive)} and {_clause(draw, positive)}"
        case 5 | 6:
            text = f"{_clause(draw, other)} , but {_clause(draw, positive)}"
        case 7:
            text = f"although {_clause(draw, other)} , {_clause(draw, positive)}"
        case 8:
            text = f"{_clause(draw, positive)} , even though {_clause(draw, other)}"
        case _:
            text = f"{_clause(draw, positive)} despite the {draw.pick(_ADJECTIVES[other])} {draw.pick(_ASPECTS)}"
    return NAMES[positive], f"{text} ."


class OpinionCorpus(Sequence[tuple[str, str]]):
    """Labels and sentences of one split, as a random-access sequence.

    Args:
      split: `train`, `validation` or `test`.
      num_examples: how many; 0 for the default (12,000 for training, 500 and 1,000 for the others).
      seed: another one gives another corpus, with the same sentences held out.

    Raises:
      ValueError: for an unknown split.
    """

    def __init__(self, split: str, num_examples: int = 0, seed: int = 0) -> None:
        if split not in DEFAULT_SIZES:
            raise ValueError(f"the bundled opinions have no split {split!r}: choose one of {', '.join(DEFAULT_SIZES)}")
        self.split, self.seed = split, seed
        self._size = num_examples or DEFAULT_SIZES[split]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self._write(i) for i in range(*index.indices(self._size))]
        if not -self._size <= index < self._size:
            raise IndexError(f"record {index} of a corpus of {self._size}")
        return self._write(index % self._size)

    def _write(self, index: int) -> tuple[str, str]:
        """Draws sentences, with a new key each time, until one belongs to this split."""
        attempt = 0
        while True:
            key = b"opinion %d %d %d %s" % (index, attempt, self.seed, self.split.encode())
            label, text = opinion(Draw(key))
            if zlib.crc32(text.encode()) % 32 in _REMAINDERS[self.split]:
                return label, text
            attempt += 1
