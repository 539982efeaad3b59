"""Verb groups: how each mode of speaking (past, perfect, "has to", ...) inflects each verb in both languages.

English and German divide the same meaning differently; the correspondence is fixed here so that it is a function both
ways. English progressive and German present answer to each other for actions (a frequency or "likes to" makes it the
simple present), English simple past to the preterite, and the present perfect to the `Perfekt`. Only for "you" is the
simple past spoken German's `Perfekt`, and then there is no present perfect.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxformer.data.bundled import english as en, entries, german as de, lexicon
from jaxformer.data.bundled.adverbials import PLACES, Place
from jaxformer.data.bundled.phrases import HUMAN, NOUNS, OF_KIND, Noun, Text

MODES = range(18)
(SIMPLE, PROGRESSIVE, PAST, PAST_SPOKEN, PAST_PROGRESSIVE, PERFECT, FUTURE, LIKE, CAN, HAVE_TO, WANT, SHOULD, MAY,
 WOULD_LIKE, COULD, HAD_TO, WANTED, WAS_ALLOWED) = MODES


class Group(NamedTuple):
    """One verb in one mode.

    Attributes:
      english: the English verb group.
      german: finite forms by person, as they stand in second place.
      right: what closes the German main clause: particle, participle or infinitive.
      final: by person, the whole German group as it stands at the end of a subordinate clause.
    """

    english: en.EnglishGroup
    german: tuple[str, ...]
    right: str
    final: tuple[str, ...]


class Verb(NamedTuple):
    """A verb ready for use; `groups` is indexed by mode."""

    english: str
    particle: str
    frame: str
    aspect: str
    prepositions: Text
    case: int
    infinitive_zu: str
    reflexive: bool
    objects: tuple[Noun, ...]
    places: tuple[Place, ...]
    manners: tuple[Text, ...]
    liked: bool
    one_object: bool
    known_object: bool
    social: bool
    benefactive: bool
    homograph: bool
    groups: tuple[Group, ...]


def _with_infinitive(english: en.EnglishGroup, modal: tuple[str, ...], german: de.GermanVerb) -> Group:
    infinitive = german.infinitive
    return Group(english, modal, infinitive, tuple(f"{infinitive} {form}" for form in modal))


def _groups(base: str, past: str, participle: str, german: de.GermanVerb) -> tuple[Group, ...]:
    def finite(english: en.EnglishGroup, forms: tuple[str, ...]) -> Group:
        return Group(english, forms, german.particle.strip(), tuple(german.particle + form for form in forms))

    def modal(english: en.EnglishGroup, name: str) -> Group:
        return _with_infinitive(english, de.MODALS[name], german)

    perfect = Group(
        en.compound(en.HAVE, participle), german.auxiliary, german.participle,
        tuple(f"{german.participle} {form}" for form in german.auxiliary),
    )
    ing = en.gerund(base)
    groups = {
        SIMPLE: finite(en.simple(base), german.present),
        PROGRESSIVE: finite(en.compound(en.BE, ing), german.present),
        PAST: finite(en.simple(base, past), german.preterite),
        PAST_SPOKEN: perfect._replace(english=en.simple(base, past)),
        PAST_PROGRESSIVE: finite(en.compound(en.WAS, ing), german.preterite),
        PERFECT: perfect,
        FUTURE: _with_infinitive(en.compound(en.WILL, base), de.WERDEN, german),
        LIKE: finite(en.simple(base, before="likes to|like to"), german.present),
        CAN: modal(en.compound(en.CAN, base), "können"),
        HAVE_TO: modal(en.simple(base, before="has to|have to"), "müssen"),
        WANT: modal(en.simple(base, before="wants to|want to"), "wollen"),
        SHOULD: modal(en.compound(en.SHOULD, base), "sollten"),
        MAY: modal(en.compound(en.BE, f"allowed to {base}"), "dürfen"),
        WOULD_LIKE: modal(en.compound(en.WOULD, f"like to {base}"), "möchten"),
        COULD: modal(en.compound(en.COULD, base), "konnten"),
        HAD_TO: modal(en.simple(f"have to {base}", f"had to {base}"), "mussten"),
        WANTED: modal(en.simple(f"want to {base}", f"wanted to {base}"), "wollten"),
        WAS_ALLOWED: modal(en.compound(en.WAS, f"allowed to {base}"), "durften"),
    }
    return tuple(groups[mode] for mode in MODES)


def _objects(names: tuple[str, ...]) -> tuple[Noun, ...]:
    found: list[Noun] = []
    for name in names:
        found.extend(OF_KIND[name] if name in OF_KIND else (NOUNS[name],))
    return tuple({noun.english: noun for noun in found}.values())


PLACE_SETS = {
    name: tuple(PLACES[place.replace("_", " ")] for place in table.split())
    for name, table in lexicon.PLACE_SETS.items()
}
_MANNERS = tuple(
    (tuple(manner.split()), frozenset(table.split())) for manner, table in lexicon.MANNERS.items()
)
_LIKED = frozenset(word.replace("_", " ") for word in lexicon.LIKED.split())


def _verb(entry: entries.VerbEntry) -> Verb:
    german = de.verb(entry)
    base, past, participle = entry.english
    english_preposition, german_preposition, case = entry.preposition or ("", "", "acc")
    places = PLACE_SETS[entry.places] if entry.places in PLACE_SETS else (PLACES[entry.places],)
    return Verb(
        base, entry.particle, entry.frame, entry.aspect, (english_preposition, german_preposition),
        de.DAT if case == "dat" else de.ACC, german.infinitive_zu, entry.reflexive, _objects(entry.objects), places,
        tuple((manner[0], manner[1]) for manner, bases in _MANNERS if base in bases),
        base in _LIKED and not entry.particle and not entry.preposition,
        base in lexicon.SINGULAR_OBJECTS, base in lexicon.DEFINITE_OBJECTS,
        base in lexicon.SOCIAL, base in lexicon.BENEFACTIVE, base == past,
        _groups(base, past, participle, german),
    )


VERBS = tuple(_verb(entry) for entry in entries.verbs())
EVERYDAY = tuple(verb for verb in VERBS if verb.aspect != "state")
STATES = tuple(verb for verb in VERBS if verb.aspect == "state")
ACTIONS = tuple(verb for verb in VERBS if verb.aspect in ("action", "event") and verb.frame != "posture")
LIKED = tuple(verb for verb in ACTIONS if verb.liked)
ANIMAL = tuple(verb for verb in VERBS if verb.english in lexicon.ANIMAL_VERBS.split())


def _takes_only(verb: Verb, kinds: frozenset[str], among: bool) -> bool:
    return bool(verb.objects) and all((noun.kind in kinds) == among for noun in verb.objects)


_NOT_ASKED_FOR = frozenset({"person", "family", "animal", "wild", "instrument", "weather"})
OF_THINGS = tuple(v for v in ACTIONS if v.frame == "accusative" and _takes_only(v, _NOT_ASKED_FOR, False))
"""Verbs whose object one asks for with "what"."""
OF_PERSONS = tuple(v for v in ACTIONS if v.frame in ("accusative", "dative") and _takes_only(v, HUMAN, True))
"""Verbs whose object one asks for with "who"."""
SOMEWHERE = tuple(v for v in EVERYDAY if v.places and v.frame in ("intransitive", "posture", "accusative"))
"""Verbs one asks "where" about."""
GOING = tuple(v for v in ACTIONS if v.frame in ("motion", "travel") and v.english != "come")
"""Verbs one asks "where to" about."""
