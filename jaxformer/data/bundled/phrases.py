"""Noun phrases, places and times: every function draws one phrase and returns it in both languages.

This is the lower half of the synchronous grammar: a choice is made once and spelled twice. Word order in the clause is
the business of `clauses.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxformer.data.bundled import english as en, entries, german as de, lexicon, numerals
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import DAT, GEN, HE, IT, ME, NOM, PLURAL, SHE, THEY, WE, YOU

Text = tuple[str, str]
"""English and German."""


class Phrase(NamedTuple):
    """A noun phrase: both spellings, and whether German `nicht` follows it (definite) or `kein` sits in it."""

    english: str
    german: str
    definite: bool


class Subject(NamedTuple):
    """A subject: nominative phrase, person for agreement, and whether it is a personal pronoun."""

    english: str
    german: str
    person: int
    is_pronoun: bool = False


class Adjective(NamedTuple):
    """An adjective, ready to be inflected."""

    english: str
    german: dict[str, str]
    predicate: Text
    comparative: Text


class Noun(NamedTuple):
    """A noun, ready to be inflected: `forms[number][case]`, number 0 or 1."""

    english: str
    english_plural: str
    forms: tuple[tuple[str, ...], tuple[str, ...]]
    gender: int
    kind: str
    person: int
    adjectives: tuple[Adjective, ...]


class Determiner(NamedTuple):
    """A determiner: German forms by gender and case, and the adjective endings that follow it."""

    english: str
    german: tuple[tuple[str, ...], ...]
    endings: tuple[tuple[str, ...], ...]
    definite: bool


def _determiner(english: str, german: str, endings: tuple[tuple[str, ...], ...], definite: bool) -> Determiner:
    return Determiner(english, de.determiner(german) if german else (("",) * 4,) * 4, endings, definite)


THE = _determiner("the", "der", de.WEAK_ENDINGS, True)
THIS, THESE = (_determiner(word, "dies", de.WEAK_ENDINGS, True) for word in ("this", "these"))
A = _determiner("a", "ein", de.MIXED_ENDINGS, False)
NOT_A = _determiner("a", "kein", de.MIXED_ENDINGS, False)
NOT_ANY = _determiner("any", "kein", de.MIXED_ENDINGS, False)
BARE = _determiner("", "", de.STRONG_ENDINGS, False)
ALL = _determiner("all the", "all", de.WEAK_ENDINGS, True)
MANY, SOME, SEVERAL = (
    _determiner(english, german, de.STRONG_ENDINGS, False)
    for english, german in (("many", "viel"), ("some", "einig"), ("several", "mehrer"))
)
NUMBERS = tuple(
    Determiner(numerals.english_cardinal(n), ((numerals.german_cardinal(n),) * 4,) * 4, de.STRONG_ENDINGS, False)
    for n in range(2, 13)
)
MINE = tuple(
    _determiner(en.POSSESSIVES[person], stem, de.MIXED_ENDINGS, True) for person, stem in enumerate(de.POSSESSIVES)
)
# Possessives that may stand in a phrase when the subject is of the given person. "Her", "his" and "their" belong to the
# subject only: German `ihr` is both "her" and "their", and the subject is what tells them apart.
_POSSESSORS = (
    (ME, ME, ME, WE), (YOU, YOU, ME), (HE, HE, ME, YOU, WE), (SHE, SHE, ME, YOU, WE), (ME, YOU, WE), (WE, WE, WE, ME),
    (THEY, THEY, ME, YOU, WE), (de.FORMAL, de.FORMAL, ME, WE),
)
POSSESSIVES = tuple(tuple(MINE[possessor] for possessor in possessors) for possessors in _POSSESSORS)

_ENTRIES = entries.adjectives()


def _adjective(name: str) -> Adjective:
    entry = _ENTRIES[name]
    german = de.adjective(entry)
    return Adjective(
        entry.english, german, (entry.english, entry.german), (entry.english_comparative, entry.german_comparative)
    )


ADJECTIVES = {name: _adjective(name) for name in _ENTRIES}
STATES = tuple(ADJECTIVES[name].predicate for name in lexicon.STATES.split())


HUMAN = frozenset({"person", "family"})
"""Kinds of nouns that name people."""


def _noun(entry: entries.NounEntry) -> Noun:
    names = lexicon.ADJECTIVES_OF[entry.kind].split()
    gender = de.GENDERS[entry.gender]
    is_person = entry.kind in HUMAN
    singular, plural = de.noun(entry)
    return Noun(
        entry.english, entry.english_plural, (singular, plural), gender, entry.kind,
        (HE, SHE, IT)[gender] if is_person else IT,
        tuple(ADJECTIVES[name] for name in names if entry.english not in lexicon.UNSUITABLE.get(name, "").split()),
    )


NOUNS = {entry.english: _noun(entry) for entry in entries.nouns()}
OF_KIND: dict[str, tuple[Noun, ...]] = {
    kind: tuple(noun for noun in NOUNS.values() if noun.kind == kind)
    for kind in (*lexicon.NOUNS, *lexicon.MASS_NOUNS)
}
PERSONS, FAMILY = OF_KIND["person"], OF_KIND["family"]
NAMES = tuple(
    (name, person) for gender, person in (("f", SHE), ("m", HE)) for name in lexicon.NAMES[gender].split()
)
CITIES = tuple((english, german) for english, german in entries.rows(lexicon.CITIES))
VOCATIVES = tuple(
    (f"{english} {name}", f"{german} {name}")
    for name in lexicon.SURNAMES.split() for english, german in (("Mrs", "Frau"), ("Mr", "Herr"))
)

_MASS = frozenset(lexicon.MASS_NOUNS)
_OWNED = frozenset(
    ("family", "thing", "clothes", "vehicle", "furniture", "animal", "text", "tale", "machine", "dishes", "container")
)
_COUNTED = frozenset(["food", "text", "furniture", "animal", "thing", "dishes", "container", "building", "person"])
_SINGULAR = (THE, THE, THE, THE, A, A, A, A, THIS)
_PLURAL = (THE, THE, THE, BARE, BARE, BARE, THESE, SOME, SOME, MANY, ALL, SEVERAL)
_PLURAL_PERSONS = (THE, THE, THE, THESE, SOME, MANY, ALL, SEVERAL)
_ADJECTIVE_PERCENT, _PLURAL_PERCENT, _GENITIVE_PERCENT, _POSSESSIVE_PERCENT = 30, 22, 7, 20


def spell(noun: Noun, plural: bool, determiner: Determiner, adjective: Adjective | None, case: int) -> Text:
    """`determiner`, `adjective` and `noun`, inflected for number and case, in both languages."""
    gender = PLURAL if plural else noun.gender
    english, german = noun.english_plural if plural else noun.english, noun.forms[plural][case]
    if adjective is not None:
        english = f"{adjective.english} {english}"
        german = f"{adjective.german[determiner.endings[gender][case]]} {german}"
    if determiner is BARE:
        return english, german
    article = en.indefinite(english) if determiner.english == "a" else determiner.english
    return f"{article} {english}", f"{determiner.german[gender][case]} {german}"


def any_adjective(draw: Draw, noun: Noun) -> Adjective | None:
    """An adjective that suits `noun`, or, more often, none."""
    return draw.pick(noun.adjectives) if noun.adjectives and draw.chance(_ADJECTIVE_PERCENT) else None


def noun_phrase(
    draw: Draw, noun: Noun, case: int, owner: int = IT, negated: bool = False, singular: bool = False,
    known: bool = False,
) -> Phrase:
    """A phrase around `noun`; `owner` is the person of the subject, which its possessives may refer to.

    When `negated`, an indefinite phrase carries the negation itself: `kein`, "any". A `known` phrase is definite.
    """
    kind = noun.kind
    if kind in _MASS:
        return _mass_phrase(draw, noun, case, negated, known)
    adjective = any_adjective(draw, noun)
    if kind in _OWNED and draw.chance(_GENITIVE_PERCENT):
        return _owned_phrase(draw, noun, adjective, case)
    plural = bool(noun.english_plural) and not singular and draw.chance(_PLURAL_PERCENT)
    if kind == "family" or (kind in _OWNED and draw.chance(_POSSESSIVE_PERCENT)):
        determiner = draw.pick(POSSESSIVES[owner])
    elif known:
        determiner = draw.pick((THE, THE, THE, THESE if plural else THIS))
    elif plural:
        ways = _PLURAL_PERSONS if kind == "person" else _PLURAL
        determiner = draw.pick(NUMBERS if kind in _COUNTED and draw.chance(20) else ways)
    else:
        determiner = draw.pick(_SINGULAR)
    if negated and (determiner is ALL or not determiner.definite):
        determiner = NOT_ANY if plural else NOT_A
    return Phrase(*spell(noun, plural, determiner, adjective, case), determiner.definite)


def _mass_phrase(draw: Draw, noun: Noun, case: int, negated: bool, known: bool) -> Phrase:
    if noun.kind == "instrument":  # "plays the piano" is German `spielt Klavier`
        return Phrase(f"the {noun.english}", noun.forms[0][case], False)
    definite = known or noun.kind == "weather" or draw.chance(35)
    determiner = THE if definite else NOT_ANY if negated else BARE
    return Phrase(*spell(noun, False, determiner, any_adjective(draw, noun), case), definite)


def _owned_phrase(draw: Draw, noun: Noun, adjective: Adjective | None, case: int) -> Phrase:
    """"The teacher's new car", "Anna's new car"."""
    if draw.chance(40):
        name, _ = draw.pick(NAMES)
        english, german = spell(noun, False, BARE, adjective, case)
        return Phrase(f"{name}'s {english}", f"{name}s {german}", True)
    owner = draw.pick(PERSONS)
    english, _ = spell(noun, False, BARE, adjective, case)
    _, german = spell(noun, False, THE, adjective, case)
    owner_english, owner_german = spell(owner, False, THE, None, GEN)
    return Phrase(f"{owner_english}'s {english}", f"{german} {owner_german}", True)


def bare_phrase(draw: Draw, noun: Noun, case: int) -> Phrase:
    """What one likes in general: "old books", "milk"."""
    plural = bool(noun.english_plural)
    adjective = draw.pick(noun.adjectives) if noun.adjectives and draw.chance(20) else None
    if noun.kind == "instrument":
        return _mass_phrase(draw, noun, case, False, False)
    return Phrase(*spell(noun, plural, BARE, adjective, case), False)


def subject_phrase(draw: Draw, noun: Noun) -> Subject:
    """`noun` as a subject: "the old man", "this child", "many tourists"; possessives are the speakers'."""
    plural = bool(noun.english_plural) and draw.chance(_PLURAL_PERCENT)
    adjective = any_adjective(draw, noun)
    if noun.kind == "family":
        determiner = draw.pick(POSSESSIVES[IT])
    elif plural:
        determiner = draw.pick((THE, THE, THE, THESE, MANY, ALL, SOME, *NUMBERS[:4]))
    else:
        determiner = draw.pick((THE, THE, THE, THE, THE, THIS, A))
    english, german = spell(noun, plural, determiner, adjective, NOM)
    return Subject(english, german, THEY if plural else noun.person)


def pronoun_subject(person: int) -> Subject:
    """`I`, `ich` and so on."""
    return Subject(en.SUBJECT[person], de.PERSONAL[NOM][person], person, True)


_PRONOUNS = tuple(pronoun_subject(person) for person in (ME, ME, YOU, HE, SHE, WE, THEY))
_REFERRING_PERSONS = tuple(noun for noun in (*PERSONS, *FAMILY) if noun.person != IT)


def person_subject(draw: Draw, *, pronouns: bool = True) -> Subject:
    """A person, or several, as a subject."""
    choice = draw.below(100)
    if pronouns and choice < 33:
        return draw.pick(_PRONOUNS)
    if choice < 55:
        name, person = draw.pick(NAMES)
        return Subject(name, name, person)
    if choice < 60:
        (first, _), (second, _) = draw.pick(NAMES), draw.pick(NAMES)
        if first != second:
            return Subject(f"{first} and {second}", f"{first} und {second}", THEY)
    return subject_phrase(draw, draw.pick(FAMILY if choice >= 87 else PERSONS))


def referring_subject(draw: Draw) -> Subject:
    """A full-phrase subject that "he", "she" or "they" can take up again (grammatical and natural gender agree)."""
    if draw.chance(45):
        name, person = draw.pick(NAMES)
        return Subject(name, name, person)
    return subject_phrase(draw, draw.pick(_REFERRING_PERSONS))


_ACC_PRONOUNS = (
    (YOU, HE), (ME, HE, WE), (ME, YOU, HE, WE), (ME, YOU, HE, WE), (ME, YOU, HE, WE), (YOU, HE), (ME, YOU, HE, WE),
    (ME, HE, WE),
)
"""By person of the subject: the objects that do not overlap with it."""
_DAT_PRONOUNS = tuple((*persons, SHE, THEY) for persons in _ACC_PRONOUNS)


def object_pronoun(draw: Draw, case: int, subject: int) -> Text:
    """A personal pronoun as an object that does not overlap with the subject.

    In the accusative never "her" or "them": both are `sie`, and German would not tell which.
    """
    person = draw.pick(_DAT_PRONOUNS[subject] if case == DAT else _ACC_PRONOUNS[subject])
    return en.OBJECT[person], de.PERSONAL[case][person]
