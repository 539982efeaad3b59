"""Reads the tables of `lexicon.py` into typed entries, and counts them.

Not for inflection: an entry holds principal parts only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jaxformer.data.bundled import lexicon


class NounEntry(NamedTuple):
    """A noun: lemma and plural on both sides, gender `m`, `f` or `n`, and whether it is an n-declension noun."""

    english: str
    english_plural: str
    german: str
    gender: str
    german_plural: str
    weak: bool
    kind: str


class VerbEntry(NamedTuple):
    """A verb with its principal parts and what it takes.

    Attributes:
      english: base, past and past participle.
      particle: English particle, which stands after the object ("turn the lamp on"), or empty.
      german: infinitive (`an+rufen` when separable), 3rd person present and preterite, and past participle.
      perfect_with_sein: the perfect takes `sein`.
      reflexive: takes an accusative reflexive pronoun.
      frame: `intransitive`, `accusative`, `dative`, `ditransitive`, `prepositional`, `motion`, `travel`
        (to cities), `posture`, `put` or `state`.
      aspect: `action`, `event` (not every day), `mental` (no modal verbs), `state` (English simple present only) or
        `punctual` (no English progressive).
      preposition: English and German preposition and the German case, of the frame `prepositional`, else empty.
      objects: kinds of nouns, or single nouns, that the verb takes as its (direct) object.
      places: the set in `PLACE_SETS`, or the one place, where it happens or, for `motion`, where it leads.
    """

    english: tuple[str, str, str]
    particle: str
    german: tuple[str, str, str, str]
    perfect_with_sein: bool
    reflexive: bool
    frame: str
    aspect: str
    preposition: tuple[str, ...]
    objects: tuple[str, ...]
    places: str


class AdjectiveEntry(NamedTuple):
    """An adjective; comparatives are empty where they make no sense; `stem` is what German endings attach to."""

    english: str
    english_comparative: str
    german: str
    german_comparative: str
    stem: str


class PlaceEntry(NamedTuple):
    """A place: the noun's English lemma, English prepositions (where, where to), German ones (where, where to)."""

    noun: str
    english: tuple[str, str]
    german: tuple[str, str]


def rows(table: str) -> Iterator[list[str]]:
    """The entries of a table, as lists of words (underscores made spaces)."""
    for line in table.replace(";", "\n").replace("  ", "\n").splitlines():
        words = [word.replace("_", " ") for word in line.split()]
        if words:
            yield words


def nouns() -> list[NounEntry]:
    """Every noun; mass nouns have empty plurals."""
    entries = []
    for kind, table in lexicon.NOUNS.items():
        for english, german, gender, plural, *weak in rows(table):
            countable = english not in lexicon.SINGULAR_ONLY
            english_plural = _english_plural(english) if countable else ""
            entries.append(NounEntry(english, english_plural, german, gender, plural, bool(weak), kind))
    for kind, table in lexicon.MASS_NOUNS.items():
        for english, german, gender in rows(table):
            entries.append(NounEntry(english, "", german, gender, "", False, kind))
    return entries


def verbs() -> list[VerbEntry]:
    """Every verb."""
    return [_verb(frame, line) for frame, table in lexicon.VERBS.items() for line in table.strip().splitlines()]


def adjectives() -> dict[str, AdjectiveEntry]:
    """Every adjective by its English lemma."""
    entries = {}
    for english, english_comparative, german, *rest in rows(lexicon.ADJECTIVES):
        german_comparative = rest[0] if rest and rest[0] != "-" else ""
        stem = rest[1] if len(rest) > 1 else german
        comparative = "" if english_comparative == "-" else english_comparative
        entries[english] = AdjectiveEntry(english, comparative, german, german_comparative, stem)
    return entries


def places() -> list[PlaceEntry]:
    """Every place where something can happen or where one can go."""
    return [PlaceEntry(noun, (where, to), (wo, wohin)) for noun, where, to, wo, wohin in rows(lexicon.PLACES)]


def count() -> int:
    """How many lexical entries there are: words with a translation, names and numerals not counted twice."""
    tables = [lexicon.CITIES, lexicon.MONTHS, lexicon.WEEKDAYS, lexicon.FREQUENCIES, lexicon.UNITS]
    phrases = sum(1 for table in (*tables, *lexicon.TIMES.values()) for _ in rows(table))
    names = sum(len(table.split()) for table in (*lexicon.NAMES.values(), lexicon.SURNAMES))
    return len(nouns()) + len(verbs()) + len(adjectives()) + phrases + names


def _english_plural(noun: str) -> str:
    if noun in lexicon.ENGLISH_PLURALS:
        return lexicon.ENGLISH_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _english_past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + "ed"


def _verb(frame: str, line: str) -> VerbEntry:
    """Parses one line of `lexicon.VERBS`."""
    english, german, objects, places_, *extra = (part.strip() for part in line.split("|"))
    words = english.replace("+", "").split() if "+" in english else english.split()
    particle = words.pop() if "+" in english else ""
    english_preposition = words.pop() if extra and len(words) % 2 == 0 else ""  # "remember" has none
    words = [word.replace("_", " ") for word in words]
    base = words[0]
    forms = (base, words[1], words[2]) if len(words) == 3 else (base, _english_past(base), _english_past(base))
    parts = [word.replace("_", " ") for word in german.split()]
    reflexive = parts[0] == "sich"
    parts = parts[reflexive:]
    with_sein = parts[3] == "ist"
    infinitive, present, preterite, participle = (*parts[:3], parts[-1])
    aspects = (("punctual", lexicon.PUNCTUAL), ("mental", lexicon.MENTAL), ("event", lexicon.EVENTS))
    aspect = "state" if frame == "state" else next((name for name, verbs in aspects if base in verbs), "action")
    return VerbEntry(
        forms, particle, (infinitive, present, preterite, participle), with_sein, reflexive,
        "accusative" if frame == "state" else frame, aspect,
        (english_preposition, *extra[0].split()) if extra else (),
        tuple(word.replace("_", " ") for word in objects.split()), (places_ or "none").replace("_", " "),
    )
