"""What is swept: the text after `--sweep=` read into choices, and the combinations of fields that choices make.

    optimizer.learning_rate=1e-3,3e-4                                   each value once
    training.seed=0..9                                                  whole numbers, both ends included
    optimizer.name+optimizer.learning_rate=adam:1e-3,sgd:0.1            fields that change together
    optimizer.learning_rate=1e-4..1e-2                                  a range to draw from
    data.train="a,b",c                                                  a value that holds a comma, as in CSV

Not for where trials live (`folder`), and not for whether a combination makes sense: `jaxformer.config` says that.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxformer.config.checks import as_text
from jaxformer.config_reference import check_name, fields as known_fields

Fields = dict[str, Any]
"""Dotted field -> value: what one trial has of its own."""

Typed = Callable[[str, str], Any]
"""(field, text) -> value, as `--config.FIELD=TEXT` would have it, or a `ValueError`."""

MOST_TRIALS = 10_000
_MOST_DRAWS = 200_000  # without a new one, before the draw gives up


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
      low, high: whole numbers, which are drawn uniformly; or floats, drawn uniformly in their logarithm if both are
        positive, and uniformly otherwise.
    """

    low: int | float
    high: int | float

    @property
    def logarithmic(self) -> bool:
        """Whether the logarithm is what is drawn uniformly."""
        return isinstance(self.low, float) and self.low > 0

    def __len__(self) -> int:
        """How many whole numbers these are."""
        return int(self.high) - int(self.low) + 1

    def __iter__(self) -> Iterator[int]:
        """The whole numbers, in order."""
        return iter(range(int(self.low), int(self.high) + 1))

    def draw(self, generator: random.Random) -> int | float:
        """One of them; floats have four significant digits, so that they can be read and typed."""
        if isinstance(self.low, int):
            return generator.randint(self.low, int(self.high))
        if self.logarithmic:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


Part = tuple[Any, ...] | Range
"""What one field may be: a value alone, or a range."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The alternatives of one field, or of several that change together.

    Attributes:
      text: as it was given, for messages.
      names: of the fields.
      items: the alternatives; each has a part for every field.
    """

    text: str
    names: tuple[str, ...]
    items: tuple[tuple[Part, ...], ...]

    @property
    def continuous(self) -> bool:
        """Whether a part is a range of floats, of which there is no list."""
        return any(isinstance(part, Range) and isinstance(part.low, float) for item in self.items for part in item)

    @property
    def size(self) -> float:
        """How many combinations it stands for; infinite for a range of floats."""
        return math.inf if self.continuous else sum(math.prod(map(len, item)) for item in self.items)

    def every(self) -> list[Fields]:
        """All of them, in order; not for a range of floats."""
        rows = itertools.chain.from_iterable(itertools.product(*item) for item in self.items)
        return [dict(zip(self.names, row, strict=True)) for row in rows]

    def draw(self, generator: random.Random) -> Fields:
        """One of them: an alternative, each as likely as any other, and a number from each of its ranges."""
        item = generator.choice(self.items)
        drawn = (part.draw(generator) if isinstance(part, Range) else part[0] for part in item)
        return dict(zip(self.names, drawn, strict=True))


def read(text: str, typed: Typed) -> Choice:
    """The choice that `--sweep=TEXT` means.

    Args:
      text: `FIELD=VALUE,VALUE,...` or `FIELD+FIELD=VALUE:VALUE,VALUE:VALUE,...`.
      typed: gives a value its type, and checks it.

    Raises:
      ValueError: for a field that does not exist (with the nearest name), a value that it does not take, a value given
        twice, or none at all.
    """
    left, equals, right = text.partition("=")
    names = tuple(left.split("+"))
    if not left or not equals or not right:
        raise ValueError(f"--sweep={text} gives no values: --sweep=FIELD=VALUE,VALUE,...")
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise ValueError(f"--sweep={text} names a field twice")
    items = []
    for cells in _cells(text, right, colons=len(names) > 1):
        if len(cells) != len(names):
            item = ":".join(cell.text for cell in cells)
            raise ValueError(
                f"--sweep={text}: {item!r} gives {len(cells)} values for {len(names)} fields: one for each of {left}, "
                f"with ':' between them, and in double quotes what holds one itself"
            )
        items.append(tuple(_part(text, name, *cell, typed) for name, cell in zip(names, cells, strict=True)))
    choice = Choice(text, names, tuple(items))
    seen: set[tuple[Any, ...]] = set()
    for row in [] if choice.size > MOST_TRIALS else [tuple(fields.values()) for fields in choice.every()]:
        if row in seen:
            raise ValueError(f"--sweep={text} gives {':'.join(map(as_text, row))} twice")
        seen.add(row)
    return choice


class _Cell(NamedTuple):
    text: str
    quoted: bool


def _cells(text: str, values: str, *, colons: bool) -> list[list[_Cell]]:
    """`values` cut at commas, and with `colons` each piece at those; what stands in double quotes stays whole."""
    items: list[list[_Cell | None]] = [[None]]
    for token in re.findall(r'"(?:[^"]|"")*"|.', values, re.DOTALL):
        before = items[-1][-1] or _Cell("", False)
        if token == ",":
            items.append([None])
        elif token == ":" and colons:
            items[-1].append(None)
        elif token == '"':
            raise ValueError(f'--sweep={text}: a double quote is opened and not closed; one in a value is written ""')
        elif token[0] == '"':
            items[-1][-1] = _Cell(before.text + token[1:-1].replace('""', '"'), True)
        else:
            items[-1][-1] = _Cell(before.text + token, before.quoted)
    found = [[cell for cell in item if cell is not None] for item in items]
    if any(len(kept) < len(item) for kept, item in zip(found, items, strict=True)):
        raise ValueError(f'--sweep={text} has an empty value: write "" for an empty text, or leave the separator out')
    return found


def _part(text: str, name: str, cell: str, quoted: bool, typed: Typed) -> Part:
    numeric = known_fields()[name].type in ("int", "float")
    match = re.fullmatch(r"(.+?)\.\.(.+)", cell) if numeric and not quoted else None
    try:
        if match is None:
            return (typed(name, cell),)
        found = Range(typed(name, match[1]), typed(name, match[2]))
    except ValueError as error:
        raise ValueError(f"--sweep={text}: {error}") from None
    if not (found.low < found.high and math.isfinite(found.high - found.low)):
        raise ValueError(f"--sweep={text}: {cell!r} is no range: LOW..HIGH, the lower number first")
    return found


def every(choices: Sequence[Choice]) -> list[Fields]:
    """The grid: every combination, the last choice changing fastest.

    Raises:
      ValueError: for a range of floats, or for more than `MOST_TRIALS`.
    """
    for choice in choices:
        if choice.continuous:
            raise ValueError(
                f"--sweep={choice.text} holds a range, which has no list of values: draw N trials from it with "
                "--sweep_random=N, or list the values"
            )
    size = math.prod(choice.size for choice in choices)
    if size > MOST_TRIALS:
        raise ValueError(f"the sweep has {size:,.0f} trials: draw some of them with --sweep_random=N")
    rows = itertools.product(*(choice.every() for choice in choices))
    return [{name: value for part in row for name, value in part.items()} for row in rows]


def draw(choices: Sequence[Choice], count: int, seed: int) -> list[Fields]:
    """`count` different combinations, drawn from `seed`; more of them begin with the same ones.

    Raises:
      ValueError: if there are not as many.
    """
    size = math.prod(choice.size for choice in choices)
    too_many = "ask for fewer, or leave --sweep_random out for all of them"
    if count > min(size, MOST_TRIALS):
        raise ValueError(f"--sweep_random={count}: there are {min(size, MOST_TRIALS):,.0f} trials to draw: {too_many}")
    generator, found, since = random.Random(seed), dict[tuple[Any, ...], Fields](), 0
    while len(found) < count:
        drawn = {name: value for choice in choices for name, value in choice.draw(generator).items()}
        since = since + 1 if tuple(drawn.values()) in found else 0
        if since > _MOST_DRAWS:
            raise ValueError(f"--sweep_random={count}: only {len(found)} different trials were found: {too_many}")
        found.setdefault(tuple(drawn.values()), drawn)
    return list(found.values())
