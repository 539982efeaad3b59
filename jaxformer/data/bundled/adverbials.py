"""Places and times: where, where to and when, drawn in both languages.

Noun phrases are `phrases.py`'s; the order of adverbials in the clause is `clauses.py`'s.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxformer.data.bundled import entries, german as de, lexicon, numerals
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import ACC, DAT
from jaxformer.data.bundled.phrases import NOUNS, OF_KIND, THE, A, Noun, Text, any_adjective, spell


class Place(NamedTuple):
    """A place noun with English and German prepositions (where, where to)."""

    noun: Noun
    english: tuple[str, str]
    german: tuple[str, str]


PLACES = {entry.noun: Place(NOUNS[entry.noun], entry.english, entry.german) for entry in entries.places()}
_INDEFINITE_PLACES = frozenset((
    "restaurant", "hotel", "café", "park", "forest", "village", "lake", "museum", "theatre", "church", "library",
    "bakery", "supermarket",
))
AT_HOME, HOMEWARD = ("at home", "zu Hause"), ("home", "nach Hause")


def place(draw: Draw, at: Place, *, toward: bool) -> Text:
    """Where something happens (dative), or where one goes to (accusative, or dative after `zu`)."""
    noun = at.noun
    adjective = draw.pick(noun.adjectives) if draw.chance(12) else None
    determiner = A if noun.english in _INDEFINITE_PLACES and draw.chance(15) else THE
    case = ACC if toward and at.german[1] != "zu" else DAT
    english, german = spell(noun, False, determiner, adjective, case)
    return f"{at.english[toward]} {english}", de.preposition(at.german[toward], german)


_SURFACES = OF_KIND["furniture"]
_RELATIONS = (("on", "auf"), ("on", "auf"), ("next to", "neben"), ("under", "unter"), ("behind", "hinter"))


def position(draw: Draw, *, toward: bool) -> Text:
    """On, under or beside a piece of furniture: dative where something is, accusative where it is put."""
    noun = draw.pick(_SURFACES)
    english, german = draw.pick(_RELATIONS)
    adjective = any_adjective(draw, noun)
    phrase = spell(noun, False, THE, adjective, ACC if toward else DAT)
    return f"{english} {phrase[0]}", f"{german} {phrase[1]}"


def _pairs(table: str) -> tuple[Text, ...]:
    return tuple((english, german) for english, german in entries.rows(table))


WEEKDAYS, UNITS, FREQUENCIES = _pairs(lexicon.WEEKDAYS), _pairs(lexicon.UNITS), _pairs(lexicon.FREQUENCIES)
DATES = tuple(
    (f"on {numerals.english_date(day, english)}", f"am {numerals.german_date(day, german)}")
    for english, german, days in entries.rows(lexicon.MONTHS) for day in range(1, int(days) + 1)
)
CLOCK = tuple(
    (f"at {numerals.english_clock(hour, minute)}", f"um {numerals.german_clock(hour, minute)}")
    for hour in range(1, 13) for minute in range(0, 60, 5)
)
_ON_WEEKDAYS = tuple((f"on {english}", f"am {german}") for english, german in WEEKDAYS)
_AGO = tuple(
    (f"{numerals.english_cardinal(n)} {english} ago", f"vor {numerals.german_cardinal(n)} {german}")
    for n in range(2, 13) for english, german in UNITS
)
_AHEAD = tuple((f"in {english.removesuffix(' ago')}", f"in {german.removeprefix('vor ')}") for english, german in _AGO)
PRESENT, HABIT, PAST, FUTURE = "present", "habit", "past", "future"
_TIMES = {
    PRESENT: _pairs(lexicon.TIMES["present"]),
    HABIT: _pairs(lexicon.TIMES["habit"])
    + tuple((f"on {english}s", f"{german.lower()}s") for english, german in WEEKDAYS),
    PAST: _pairs(lexicon.TIMES["past"])
    + tuple((f"last {english}", f"letzten {german}") for english, german in WEEKDAYS),
    FUTURE: _pairs(lexicon.TIMES["future"])
    + tuple((f"next {english}", f"nächsten {german}") for english, german in WEEKDAYS),
}
_WITH_CLOCK = {
    PAST: (("yesterday", "gestern"), *_ON_WEEKDAYS),
    FUTURE: (("tomorrow", "morgen"), ("today", "heute"), *_ON_WEEKDAYS),
}


def time(draw: Draw, tense: str) -> Text:
    """When: a phrase that fits `tense`, one of `PRESENT`, `HABIT`, `PAST` and `FUTURE`."""
    if tense in (PRESENT, HABIT):
        return draw.pick(_TIMES[tense])
    choice = draw.below(100)
    if choice < 60:
        return draw.pick(_TIMES[tense])
    if choice < 70:
        return draw.pick(_AGO if tense == PAST else _AHEAD)
    if choice < 80:
        return draw.pick(DATES)
    if choice < 88:
        return draw.pick(_ON_WEEKDAYS)
    day, clock = draw.pick(_WITH_CLOCK[tense]), draw.pick(CLOCK)
    return f"{day[0]} {clock[0]}", f"{day[1]} {clock[1]}"
