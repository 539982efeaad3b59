"""Patterns without action: descriptions, comparisons, quantities, timetables and dates."""

from __future__ import annotations

from jaxformer.data.bundled import adverbials, english as en, german as de, lexicon, numerals, phrases, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import ACC, HE, IT, NOM, SHE, THEY
from jaxformer.data.bundled.phrases import NOUNS, OF_KIND, THE, Subject, Text
from jaxformer.data.bundled.word_order import finish, join

_NEVER_PREDICATED = frozenset(lexicon.NEVER_PREDICATED.split())
_DEGREES = (
    ("", ""), ("", ""), ("very", "sehr"), ("very", "sehr"), ("too", "zu"), ("not", "nicht"),
    ("not very", "nicht sehr"),
)
_TRUTHS = (("", ""), ("", ""), ("", ""), ("not", "nicht"))
_DESCRIBED = tuple(
    noun for kind, nouns in OF_KIND.items() if kind not in lexicon.MASS_NOUNS and kind != "task" for noun in nouns
)
_PERSONAL = tuple(noun for noun in _DESCRIBED if noun.kind in phrases.HUMAN)


def _described(draw: Draw, noun: phrases.Noun) -> Subject:
    """`noun` with "the", "this" or the speakers' possessives, singular or plural, without an adjective."""
    plural = bool(noun.english_plural) and draw.chance(25)
    if noun.kind == "family" or (noun.kind in ("clothes", "vehicle", "thing", "animal") and draw.chance(30)):
        determiner = draw.pick(phrases.POSSESSIVES[IT])
    else:
        determiner = THE if draw.chance(70) else phrases.THESE if plural else phrases.THIS
    english, german = phrases.spell(noun, plural, determiner, None, NOM)
    return Subject(english, german, THEY if plural else noun.person)


def predicate(draw: Draw, noun: phrases.Noun) -> Text:
    """What can be said of `noun` after "is": "tired", "very fast", "not red"."""
    if noun.kind in phrases.HUMAN and draw.chance(35):
        (english, german), gradable = draw.pick(phrases.STATES), False
    else:
        adjective = draw.pick(noun.adjectives)
        if adjective.english in _NEVER_PREDICATED:
            adjective = noun.adjectives[0]
        (english, german), gradable = adjective.predicate, bool(adjective.comparative[0])
    degree = draw.pick(_DEGREES if gradable else _TRUTHS)
    return join(degree[0], english), join(degree[1], german)


def description(draw: Draw) -> Text:
    """"The old car is very fast", as a statement or a question, now or in the past; or where somebody is."""
    past = draw.chance(30)
    be, sein = (en.WAS, de.WAR) if past else (en.BE, de.SEIN)
    if draw.chance(22):
        subject = phrases.person_subject(draw)
        when = draw.pick((("today", "heute"), ("now", "jetzt"), ("", "")))
        if past:
            when = adverbials.time(draw, adverbials.PAST)
        where = adverbials.place(draw, draw.pick(verbs.PLACE_SETS["public"]), toward=False)
        if draw.chance(12):
            where = adverbials.AT_HOME
        said = join(where[0], when[0]), join(when[1], where[1])
    else:
        noun = draw.pick(_DESCRIBED)
        subject = _described(draw, noun)
        said = predicate(draw, noun)
    person = subject.person
    if draw.chance(22):
        return finish(
            f"{be[person]} {subject.english} {said[0]}", f"{sein[person]} {subject.german} {said[1]}", "?"
        )
    return finish(f"{subject.english} {be[person]} {said[0]}", f"{subject.german} {sein[person]} {said[1]}")


def comparison(draw: Draw) -> Text:
    """"The train is faster than the bus"; "my brother is not as old as Anna.\""""
    if draw.chance(40):
        noun = other = phrases.PERSONS[0]
        first = phrases.person_subject(draw, pronouns=False)
        second = phrases.person_subject(draw, pronouns=False)
    else:
        noun = draw.pick(_DESCRIBED)
        others = OF_KIND[noun.kind]
        # A different noun of the same kind: one step or more ahead in the list.
        other = others[(others.index(noun) + 1 + draw.below(len(others) - 1)) % len(others)]
        first, second = _described(draw, noun), _described(draw, other)
    if first.english == second.english:
        second = Subject("Mrs Weber", "Frau Weber", SHE)
    shared = [each for each in noun.adjectives if each.comparative[0] and each in other.adjectives]
    adjective = draw.pick(shared)
    choice = draw.below(100)
    if choice < 60:
        english, german = f"{adjective.comparative[0]} than", f"{adjective.comparative[1]} als"
    else:
        not_, nicht = ("not ", "nicht ") if choice < 85 else ("", "")
        english, german = f"{not_}as {adjective.english} as", f"{nicht}so {adjective.predicate[1]} wie"
    return finish(
        f"{first.english} {en.BE[first.person]} {english} {second.english}",
        f"{first.german} {de.SEIN[first.person]} {german} {second.german}",
    )


_PRICES = {
    "clothes": (10, 190), "machine": (50, 900), "furniture": (30, 500), "thing": (2, 90), "dishes": (2, 30),
    "vehicle": (100, 890), "text": (2, 50), "food": (2, 8), "dish": (4, 16),
}
_PRICELESS = frozenset({"letter", "taxi", "report", "story", "poem", "article"})
_PRICED = tuple(noun for kind in _PRICES for noun in OF_KIND[kind] if noun.english not in _PRICELESS)


_AGES = {"grandmother": (60, 35), "grandfather": (60, 35), "child": (2, 9), "boy": (2, 9), "girl": (2, 9)}
_FOUND = {
    "garden": ("animal", "food"), "kitchen": ("dishes", "furniture"), "living room": ("furniture", "thing"),
    "office": ("furniture", "machine"), "restaurant": ("furniture", "person"), "park": ("animal", "person"),
    "library": ("text", "furniture"), "village": ("building", "animal"), "town": ("building", "vehicle"),
    "hotel": ("person", "furniture"), "school": ("machine", "furniture"), "station": ("transport", "person"),
}
"""Kinds of things that are found in a place."""


def quantity(draw: Draw) -> Text:
    """Prices, ages, durations and how many there are."""
    choice = draw.below(100)
    if choice < 30:
        return _price(draw)
    if choice < 55:
        return _age(draw)
    if choice < 70:
        english, german = phrases.spell(draw.pick(OF_KIND["event"]), False, THE, None, NOM)
        hours = draw.chance(30)
        number = 2 + draw.below(4) if hours else 10 + draw.below(110)
        unit = ("hours", "Stunden") if hours else ("minutes", "Minuten")
        return finish(
            f"{english} lasts {numerals.english_cardinal(number)} {unit[0]}",
            f"{german} dauert {numerals.german_cardinal(number)} {unit[1]}",
        )
    return _there_are(draw, 2 + draw.below(11 if draw.chance(40) else 98))


def _price(draw: Draw) -> Text:
    noun = draw.pick(_PRICED)
    subject = _described(draw, noun)
    least, span = _PRICES[noun.kind]
    number = least + draw.below(span)
    many = subject.person == THEY
    return finish(
        f"{subject.english} {'cost' if many else 'costs'} {numerals.english_cardinal(number)} euros",
        f"{subject.german} {'kosten' if many else 'kostet'} {numerals.german_cardinal(number)} Euro",
    )


def _age(draw: Draw) -> Text:
    if draw.chance(40):
        subject, (youngest, span) = Subject(*((draw.pick(phrases.NAMES)[0],) * 2), HE), (18, 60)
    else:
        noun = draw.pick(_PERSONAL)
        youngest, span = _AGES.get(noun.english, (20, 50))
        determiner = draw.pick(phrases.POSSESSIVES[IT]) if noun.kind == "family" else THE
        subject = Subject(*phrases.spell(noun, False, determiner, None, NOM), HE)
    age = youngest + draw.below(span)
    return finish(
        f"{subject.english} is {numerals.english_cardinal(age)} years old",
        f"{subject.german} ist {numerals.german_cardinal(age)} Jahre alt",
    )


def _there_are(draw: Draw, number: int) -> Text:
    name = draw.pick(tuple(_FOUND))
    noun = draw.pick(OF_KIND[draw.pick(_FOUND[name])])
    where = adverbials.place(draw, adverbials.PLACES[name], toward=False)
    plural = draw.chance(75)
    adjective = draw.pick(noun.adjectives) if draw.chance(20) else None
    determiner = phrases.A
    if plural:
        determiner = phrases.Determiner(
            numerals.english_cardinal(number), ((numerals.german_cardinal(number),) * 4,) * 4, de.STRONG_ENDINGS, False
        )
    english, german = phrases.spell(noun, plural, determiner, adjective, ACC)
    return finish(f"there {'are' if plural else 'is'} {english} {where[0]}", f"{where[1]} gibt es {german}")


_TIMETABLE = (
    (("leaves", "fährt", "ab"), ("left", "fuhr", "ab"), "transport"),
    (("arrives", "kommt", "an"), ("arrived", "kam", "an"), "transport"),
    (("begins", "beginnt", ""), ("began", "begann", ""), "event"),
    (("ends", "endet", ""), ("ended", "endete", ""), "event"),
    (("opens", "öffnet", ""), ("opened", "öffnete", ""), "hours"),
    (("closes", "schließt", ""), ("closed", "schloss", ""), "hours"),
)
_WITH_HOURS = tuple(
    NOUNS[name] for name in ("library", "museum", "restaurant", "supermarket", "bakery", "café", "cinema")
)
_TIMED_EVENTS = tuple(noun for noun in OF_KIND["event"] if noun.english != "breakfast")


def appointment(draw: Draw) -> Text:
    """Timetables, clock times, dates and birthdays."""
    choice = draw.below(100)
    date, clock = draw.pick(adverbials.DATES), draw.pick(adverbials.CLOCK)
    if choice < 55:
        present, past, kind = draw.pick(_TIMETABLE)
        nouns = {"transport": OF_KIND["transport"], "event": _TIMED_EVENTS, "hours": _WITH_HOURS}[kind]
        noun = draw.pick(nouns)
        adjective = draw.pick(noun.adjectives) if draw.chance(20) and kind != "transport" else None
        english, german = phrases.spell(noun, False, draw.pick((THE, THE, phrases.THIS)), adjective, NOM)
        when = date if kind == "event" and noun.english != "film" and draw.chance(50) else clock
        verb = past if draw.chance(35) else present
        return finish(f"{english} {verb[0]} {when[0]}", join(german, verb[1], when[1], verb[2]))
    if choice < 70:
        return finish(f"it is {clock[0].removeprefix('at ')}", f"es ist {clock[1].removeprefix('um ')}")
    if choice < 80:
        day = date[0].removeprefix("on ")
        ordinal, month = date[1].removeprefix("am ").split()
        return finish(f"today is {day}", f"heute ist der {ordinal[:-1]} {month}")
    name, _ = draw.pick(phrases.NAMES)
    if choice < 90:
        return finish(f"{name}'s birthday is {date[0]}", f"{name}s Geburtstag ist {date[1]}")
    return finish(f"{name} was born {date[0]}", f"{name} wurde {date[1]} geboren")
