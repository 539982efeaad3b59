"""German inflection: declension of nouns, determiners and adjectives, and conjugation of verbs.

Forms only, from principal parts; what is said and in which order is decided in `phrases.py` and `clauses.py`.
The paradigms are those of any school grammar (Duden, Die Grammatik).
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from jaxformer.data.bundled import lexicon
from jaxformer.data.bundled.entries import AdjectiveEntry, NounEntry, VerbEntry

NOM, ACC, DAT, GEN = range(4)
MASCULINE, FEMININE, NEUTER, PLURAL = range(4)
GENDERS = {"m": MASCULINE, "f": FEMININE, "n": NEUTER}

ME, YOU, HE, SHE, IT, WE, THEY, FORMAL = range(8)
"""Persons, shared with English: they index every table of finite forms. `FORMAL` is the polite `Sie`."""

# Rows are cases, columns masculine, feminine, neuter and plural.
_WEAK = ("e e e en", "en e e en", "en en en en", "en en en en")
_MIXED = ("er e es en", "en e es en", "en en en en", "en en en en")
_STRONG = ("er e es e", "en e es e", "em er em en", "en er en er")
_DER = ("der die das die", "den die das die", "dem der dem den", "des der des der")
_DIESER = ("er e es e", "en e es e", "em er em en", "es er es er")
_EIN = ("- e - e", "en e - e", "em er em en", "es er es er")


def _table(cells: tuple[str, ...], stem: str = "") -> tuple[tuple[str, ...], ...]:
    """`table[gender][case]` from rows of cells."""
    by_case = [[stem + cell.replace("-", "") for cell in row.split()] for row in cells]
    return tuple(tuple(by_case[case][gender] for case in range(4)) for gender in range(4))


WEAK_ENDINGS, MIXED_ENDINGS, STRONG_ENDINGS = _table(_WEAK), _table(_MIXED), _table(_STRONG)
ARTICLE = _table(_DER)
POSSESSIVES = ("mein", "dein", "sein", "ihr", "sein", "unser", "ihr", "Ihr")
"""Stem of the possessive for each person."""
PERSONAL = {
    NOM: ("ich", "du", "er", "sie", "es", "wir", "sie", "Sie"),
    ACC: ("mich", "dich", "ihn", "sie", "es", "uns", "sie", "Sie"),
    DAT: ("mir", "dir", "ihm", "ihr", "ihm", "uns", "ihnen", "Ihnen"),
}
REFLEXIVE = ("mich", "dich", "sich", "sich", "sich", "uns", "sich", "sich")
_RELATIVE = ("der die das die", "den die das die", "dem der dem denen", "dessen deren dessen deren")
RELATIVE_PRONOUN = _table(_RELATIVE)
CONTRACTIONS = {
    ("in", "dem"): "im", ("an", "dem"): "am", ("zu", "dem"): "zum", ("von", "dem"): "vom", ("bei", "dem"): "beim",
    ("zu", "der"): "zur", ("in", "das"): "ins", ("an", "das"): "ans",
}


def determiner(stem: str) -> tuple[tuple[str, ...], ...]:
    """Forms `[gender][case]` of `der`, `dieser`, `jeder`, `alle`, `viele`... (as `der`) or `ein`, `kein`, `mein`..."""
    if stem == "der":
        return ARTICLE
    if stem in POSSESSIVES or stem in ("ein", "kein"):
        return _table(_EIN, stem)
    return _table(_DIESER, stem)


def preposition(word: str, phrase: str) -> str:
    """`word` before `phrase`, contracted with a definite article: `in dem Garten` is `im Garten`."""
    article, _, rest = phrase.partition(" ")
    contracted = CONTRACTIONS.get((word, article))
    return f"{contracted} {rest}" if contracted else f"{word} {phrase}"


def noun(entry: NounEntry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Singular and plural forms by case; the plural is empty for mass nouns."""
    singular, plural = entry.german, entry.german_plural
    if entry.weak:
        forms = (singular, plural, plural, plural)
    else:
        genitive = singular if entry.gender == "f" else _genitive(singular)
        forms = (singular, singular, singular, genitive)
    dative = plural if plural.endswith(("n", "s")) else plural + "n"
    return forms, ((plural, plural, dative, plural) if plural else ())


def _genitive(word: str) -> str:
    if word in lexicon.GENITIVES:
        return lexicon.GENITIVES[word]
    syllables = len(re.findall("[aeiouyäöü]+", word.lower()))
    return word + ("es" if syllables == 1 or word.endswith(("s", "ß", "z", "x", "sch")) else "s")


def adjective(entry: AdjectiveEntry) -> dict[str, str]:
    """The inflected form for each ending."""
    return {ending: entry.stem + ending for ending in ("", "e", "er", "es", "en", "em")}


class GermanVerb(NamedTuple):
    """All forms of a verb.

    Attributes:
      present, preterite: finite forms by person, without the separable particle.
      particle: the separable particle, or empty; one that is written apart (`spazieren gehen`) ends in a space.
      infinitive, infinitive_zu: with the particle: `anrufen`, `anzurufen`.
      participle: the past participle.
      auxiliary: finite forms of the perfect's `haben` or `sein`, by person.
    """

    present: tuple[str, ...]
    preterite: tuple[str, ...]
    particle: str
    infinitive: str
    infinitive_zu: str
    participle: str
    auxiliary: tuple[str, ...]


def by_person(ich: str, du: str, er: str, wir: str) -> tuple[str, ...]:
    """The forms for all eight persons; `Sie` is conjugated as `sie`."""
    return (ich, du, er, er, er, wir, wir, wir)


SEIN = by_person("bin", "bist", "ist", "sind")
WAR = by_person("war", "warst", "war", "waren")
HABEN = by_person("habe", "hast", "hat", "haben")
WERDEN = by_person("werde", "wirst", "wird", "werden")
MODALS = {
    "können": by_person("kann", "kannst", "kann", "können"),
    "müssen": by_person("muss", "musst", "muss", "müssen"),
    "wollen": by_person("will", "willst", "will", "wollen"),
    "dürfen": by_person("darf", "darfst", "darf", "dürfen"),
    "möchten": by_person("möchte", "möchtest", "möchte", "möchten"),
    "sollten": by_person("sollte", "solltest", "sollte", "sollten"),
    "konnten": by_person("konnte", "konntest", "konnte", "konnten"),
    "mussten": by_person("musste", "musstest", "musste", "mussten"),
    "wollten": by_person("wollte", "wolltest", "wollte", "wollten"),
    "durften": by_person("durfte", "durftest", "durfte", "durften"),
}
_IRREGULAR_PRESENT = {"haben": HABEN, "mögen": by_person("mag", "magst", "mag", "mögen")}
_IRREGULAR_DU = {"halten": "hältst", "laden": "lädst"}


def present(infinitive: str, er: str) -> tuple[str, ...]:
    """Present forms by person of a simple verb, from its infinitive and 3rd person singular."""
    if infinitive in _IRREGULAR_PRESENT:
        return _IRREGULAR_PRESENT[infinitive]
    stem = infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
    ich = stem[:-2] + "le" if infinitive.endswith("eln") else stem + "e"
    # The du-form drops its own s after a sibilant: du liest, du putzt.
    du = er if er[:-1].endswith(("s", "ß", "z", "x")) else er[:-1] + "st"
    return by_person(ich, _IRREGULAR_DU.get(infinitive, du), er, infinitive)


def preterite(er: str) -> tuple[str, ...]:
    """Preterite forms by person, from the 3rd person singular; strong 2nd persons are not used by the grammar."""
    if er.endswith("e"):
        return by_person(er, er + "st", er, er + "n")
    return by_person(er, er + ("est" if er.endswith(("t", "d", "s", "ß", "z")) else "st"), er, er + "en")


@functools.cache
def verb(entry: VerbEntry) -> GermanVerb:
    """The forms of `entry`."""
    infinitive, er, er_past, participle = entry.german
    particle, _, base = infinitive.rpartition("+")
    return GermanVerb(
        present(base, er), preterite(er_past), particle, particle + base,
        f"{particle}zu{base}" if particle and particle[-1] != " " else f"{particle}zu {base}",
        participle, SEIN if entry.perfect_with_sein else HABEN,
    )
