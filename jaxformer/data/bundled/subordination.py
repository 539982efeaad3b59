"""Patterns of two clauses: that, whether, because, although, if, while, relative clauses and infinitives.

The German verb goes to the end of the subordinate clause, and a comma separates the two.
"""

from __future__ import annotations

from jaxformer.data.bundled import adverbials, clauses, english as en, facts, german as de, lexicon, phrases, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import ACC, DAT, IT, NOM, PLURAL, THEY, YOU
from jaxformer.data.bundled.phrases import THE, Subject, Text
from jaxformer.data.bundled.verbs import Verb
from jaxformer.data.bundled.word_order import Clause, finish, join


def _forms(english: en.EnglishGroup, german: tuple[str, ...], negated: bool = False) -> tuple[tuple[str, ...], ...]:
    """Finite forms of a main verb that only introduces a clause, by person."""
    if not negated:
        return english.finite or tuple(f"{form} {english.rest}" for form in english.auxiliary), german
    return (
        tuple(f"{en.negated(form)} {english.rest}" for form in english.auxiliary),
        tuple(f"{form} nicht" for form in german),
    )


_KNOW = (en.simple("know"), de.by_person("weiß", "weißt", "weiß", "wissen"))
_THAT = (
    _forms(*_KNOW), _forms(en.simple("believe"), de.present("glauben", "glaubt")),
    _forms(en.simple("say"), de.present("sagen", "sagt")),
    _forms(en.simple("think"), de.present("denken", "denkt")),
)
_HOPE, _HOPED = _forms(en.simple("hope"), de.present("hoffen", "hofft")), (verbs.FUTURE, verbs.FUTURE, verbs.CAN)
_WHETHER = (_forms(*_KNOW, negated=True), _forms(en.simple("ask"), de.present("fragen", "fragt")))
_INDIRECT = (("whether", "ob"), ("whether", "ob"), ("why", "warum"))
_JUDGEMENTS = (
    ("it is nice", "es ist schön"), ("it is good", "es ist gut"), ("it is strange", "es ist seltsam"),
    ("it is possible", "es ist möglich"), ("it is a pity", "es ist schade"),
)


def reported(draw: Draw) -> Text:
    """That, whether and why: the German verb goes to the end."""
    hoped = draw.chance(15)
    verb = draw.pick(verbs.ACTIONS if hoped else verbs.EVERYDAY)
    mode = draw.pick(_HOPED) if hoped else clauses.choose_mode(draw, verb)
    if mode == verbs.WOULD_LIKE:
        mode = verbs.WANT
    spoken = clauses.person_clause(draw, verb=verb, mode=mode)
    inner = spoken.english(), spoken.german_final()
    if not hoped and draw.chance(25):
        english, german = draw.pick(_JUDGEMENTS)
        return finish(f"{english} that {inner[0]}", f"{german}, dass {inner[1]}")
    subject = phrases.person_subject(draw)
    if subject.person == YOU:
        subject = phrases.pronoun_subject(de.ME)
    forms, conjunction = _HOPE if hoped else draw.pick(_THAT), ("that", "dass")
    if not hoped and draw.chance(35):
        forms, conjunction = draw.pick(_WHETHER), draw.pick(_INDIRECT)
    english, german = forms[0][subject.person], forms[1][subject.person]
    return finish(
        f"{subject.english} {english} {conjunction[0]} {inner[0]}",
        f"{subject.german} {german}, {conjunction[1]} {inner[1]}",
    )


_HAD_EN, _HAD_DE = ("had",) * 8, de.by_person("hatte", "hattest", "hatte", "hatten")
_STATES = tuple((english, german) for english, german in phrases.STATES if english != "happy")
_HINDRANCES = (*_STATES, ("very tired", "sehr müde"), ("very ill", "sehr krank"))
_LACKS = (
    ("no time", "keine Zeit"), ("little time", "wenig Zeit"), ("a lot of work", "viel Arbeit"),
    ("a cold", "eine Erkältung"),
)
_CHANCES = (
    ("a lot of time", "viel Zeit"), ("time", "Zeit"), ("nothing to do", "nichts zu tun"),
    ("a day off", "einen freien Tag"),
)
_BAD_WEATHER = (
    (("it is raining", "es regnet"), ("it was raining", "es regnete")),
    (("it is snowing", "es schneit"), ("it was snowing", "es schneite")),
    (("it is very cold", "es sehr kalt ist"), ("it was very cold", "es sehr kalt war")),
    (("the weather is bad", "das Wetter schlecht ist"), ("the weather was bad", "das Wetter schlecht war")),
)
_GOOD_WEATHER = (
    (("the sun is shining", "die Sonne scheint"), ("the sun was shining", "die Sonne schien")),
    (("the weather is good", "das Wetter gut ist"), ("the weather was good", "das Wetter gut war")),
)
_CONDITIONS = (
    ("the weather is good", "das Wetter gut ist"), ("it rains", "es regnet"), ("it snows", "es schneit"),
    ("the sun shines", "die Sonne scheint"),
)


def _circumstance(draw: Draw, subject: Subject, good: bool, past: bool) -> Text:
    """A subordinate clause without its conjunction: what helped or hindered `subject`."""
    choice, person = draw.below(100), subject.person
    if choice < 25:
        return draw.pick(_GOOD_WEATHER if good else _BAD_WEATHER)[past]
    if choice < 60 and not good:
        english, german = draw.pick(_HINDRANCES)
        be, sein = (en.WAS, de.WAR) if past else (en.BE, de.SEIN)
        return f"{subject.english} {be[person]} {english}", f"{subject.german} {german} {sein[person]}"
    english, german = draw.pick(_CHANCES if good else _LACKS)
    have, haben = (_HAD_EN, _HAD_DE) if past else (en.HAVE, de.HABEN)
    return f"{subject.english} {have[person]} {english}", f"{subject.german} {german} {haben[person]}"


def reasoned(draw: Draw) -> Text:
    """Because and although, before or after the main clause."""
    named = phrases.referring_subject(draw)
    again = phrases.pronoun_subject(named.person)
    subordinate_first = draw.chance(40)
    in_main, in_reason = (again, named) if subordinate_first else (named, again)
    because = draw.chance(50)
    good = because and draw.chance(50)
    negation = 100 if because and not good else 0
    mode = draw.pick((verbs.PAST, verbs.PAST, verbs.FUTURE, verbs.PROGRESSIVE, verbs.CAN, verbs.WANT))
    if mode == verbs.CAN and not negation:
        mode = verbs.HAVE_TO if not good else verbs.FUTURE
    verb = draw.pick(verbs.ACTIONS)
    main = clauses.clause(draw, in_main, verb, mode, time=False, negation=negation)
    reason = _circumstance(draw, in_reason, good, main.group in (verb.groups[verbs.PAST],))
    english, german = ("because", "weil") if because else ("although", "obwohl")
    if subordinate_first:
        return finish(
            f"{english} {reason[0]}, {main.english()}", f"{german} {reason[1]}, {main.german_inverted()}"
        )
    return finish(f"{main.english()} {english} {reason[0]}", f"{main.german()}, {german} {reason[1]}")


def conditional(draw: Draw) -> Text:
    """"If Anna has time, she will visit us.\""""
    named = phrases.referring_subject(draw)
    again = phrases.pronoun_subject(named.person)
    mode = draw.pick((verbs.FUTURE, verbs.FUTURE, verbs.WANT, verbs.CAN, verbs.SHOULD))
    weather = draw.chance(40)
    subject = named if weather else again
    main = clauses.clause(draw, subject, draw.pick(verbs.ACTIONS), mode, time=False, negation=0)
    if weather:
        english, german = draw.pick(_CONDITIONS)
    else:
        having, habend = draw.pick(_CHANCES)
        english = f"{named.english} {en.HAVE[named.person]} {having}"
        german = f"{named.german} {habend} {de.HABEN[named.person]}"
    return finish(f"if {english}, {main.english()}", f"wenn {german}, {main.german_inverted()}")


_PREDICATES_WITH_TWO = tuple(verb for verb in verbs.ACTIONS if not verb.homograph and verb.aspect == "action")


def simultaneous(draw: Draw) -> Text:
    """"While the father was cooking, the child slept.\""""
    first, second = phrases.person_subject(draw, pronouns=False), phrases.person_subject(draw)
    if second.person == YOU or second.english == first.english:
        second = phrases.pronoun_subject(de.ME)
    long, short = draw.pick(_PREDICATES_WITH_TWO), draw.pick(_PREDICATES_WITH_TWO)
    background = clauses.clause(draw, first, long, verbs.PAST_PROGRESSIVE, time=False, negation=0)
    event = clauses.clause(draw, second, short, verbs.PAST, time=False, negation=0)
    if draw.chance(60):
        return finish(
            f"while {background.english()}, {event.english()}",
            f"während {background.german_final()}, {event.german_inverted()}",
        )
    return finish(
        f"{event.english()} while {background.english()}", f"{event.german()}, während {background.german_final()}"
    )




def _heads(verb: Verb) -> tuple[phrases.Noun, ...]:
    """The objects of `verb` that a relative clause can single out: not "my mother", not "rain"."""
    return tuple(noun for noun in verb.objects if noun.kind not in ("family", *lexicon.MASS_NOUNS))


_OBJECT_VERBS = tuple(
    verb for verb in (*verbs.OF_THINGS, *verbs.OF_PERSONS, *verbs.STATES)
    if _heads(verb) and verb.english != "order"
)
_ATTITUDES = tuple(v for v in verbs.STATES if v.english in ("know", "like"))


def _relative_clause(draw: Draw, noun: phrases.Noun, plural: bool) -> Text:
    """"who is repairing the car": the noun is a person and the subject of the relative clause."""
    pronoun = de.RELATIVE_PRONOUN[PLURAL if plural else noun.gender][NOM]
    verb = draw.pick(verbs.ACTIONS)
    mode = draw.pick((verbs.PROGRESSIVE, verbs.PROGRESSIVE, verbs.PAST, verbs.FUTURE, verbs.PERFECT))
    inner = clauses.clause(draw, Subject("who", pronoun, THEY if plural else noun.person, True), verb, mode)
    return inner.english(), inner.german_final()


def _object_relative(draw: Draw) -> tuple[phrases.Noun, bool, Text]:
    """"that Anna is reading": a noun, whether it is plural, and a clause whose object the noun is."""
    verb = draw.pick(_OBJECT_VERBS)
    noun = draw.pick(_heads(verb))
    plural = bool(noun.english_plural) and draw.chance(20)
    case = DAT if verb.frame == "dative" else ACC
    relative = de.RELATIVE_PRONOUN[PLURAL if plural else noun.gender][case]
    mode = verbs.SIMPLE if verb.aspect == "state" else draw.pick((verbs.PROGRESSIVE, verbs.PAST, verbs.PERFECT))
    inner = clauses.clause(draw, phrases.person_subject(draw), verb, mode, object_=False, negation=0)
    return noun, plural, (
        f"{'whom' if noun.kind in phrases.HUMAN else 'that'} {inner.english()}", f"{relative} {inner.german_final()}"
    )


def relative(draw: Draw) -> Text:
    """A relative clause on the subject of a description, or on the object of "know" and "like"."""
    if draw.chance(30):
        verb = draw.pick(_ATTITUDES)
        noun = draw.pick(phrases.PERSONS)
        plural = draw.chance(20)
        subject = phrases.person_subject(draw)
        inner = _relative_clause(draw, noun, plural)
        head = phrases.spell(noun, plural, THE, None, ACC)
        main = Clause(subject, verb, verbs.SIMPLE)
        main.tail, main.late = head
        return finish(f"{main.english()} {inner[0]}", f"{main.german()}, {inner[1]}")
    if draw.chance(50):
        noun = draw.pick(phrases.PERSONS)
        plural = draw.chance(20)
        inner = _relative_clause(draw, noun, plural)
    else:
        noun, plural, inner = _object_relative(draw)
    person = THEY if plural else noun.person
    english, german = phrases.spell(noun, plural, THE, None, NOM)
    said = facts.predicate(draw, noun)
    return finish(
        f"{english} {inner[0]} {en.BE[person]} {said[0]}", f"{german}, {inner[1]}, {de.SEIN[person]} {said[1]}"
    )


_AGES = {"grandmother": (60, 35), "grandfather": (60, 35), "child": (2, 9), "boy": (2, 9), "girl": (2, 9)}
_FOUND = {
    "garden": ("animal", "food"), "kitchen": ("dishes", "furniture"), "living room": ("furniture", "thing"),
    "office": ("furniture", "machine"), "restaurant": ("furniture", "person"), "park": ("animal", "person"),
    "library": ("text", "furniture"), "village": ("building", "animal"), "town": ("building", "vehicle"),
    "hotel": ("person", "furniture"), "school": ("machine", "furniture"), "station": ("transport", "person"),
}


_CONTROL = (
    _forms(en.compound(en.BE, "trying"), de.present("versuchen", "versucht")),
    _forms(en.simple("try", "tried"), de.preterite("versuchte")),
    _forms(en.simple("hope"), de.present("hoffen", "hofft")),
    _forms(en.simple("plan"), de.present("planen", "plant")),
    _forms(en.simple("promise"), de.present("versprechen", "verspricht")),
    _forms(en.simple("promise", "promised"), de.preterite("versprach")),
    _forms(en.simple("decide", "decided"), de.preterite("beschloss")),
    _forms(en.simple("forget", "forgot"), de.preterite("vergaß")),
    _forms(en.simple("begin", "began"), de.preterite("begann")),
)
_EVALUATIONS = (
    ("it is important", "es ist wichtig"), ("it is difficult", "es ist schwierig"), ("it is nice", "es ist schön"),
    ("it is easy", "es ist leicht"), ("it is dangerous", "es ist gefährlich"),
)
_DONE_SOMEWHERE = tuple(
    verb for verb in verbs.ACTIONS if verb.places and verb.frame in ("accusative", "intransitive", "dative")
)
_GOING = tuple(verb for verb in verbs.ACTIONS if verb.english in ("go", "rush", "run") and verb.frame == "motion")
_IMPERSONAL = Subject("", "", IT)


def infinitive(draw: Draw) -> Text:
    """"Anna is trying to open the door"; "it is difficult to repair the car"; purposes with `um ... zu`."""
    choice = draw.below(100)
    purpose = 25 <= choice < 50
    verb = draw.pick(_DONE_SOMEWHERE if purpose else verbs.ACTIONS)
    subject = _IMPERSONAL if choice < 25 else phrases.person_subject(draw)
    if subject.person == YOU:
        subject = phrases.pronoun_subject(de.ME)
    inner = clauses.clause(draw, subject, verb, verbs.FUTURE, place=not purpose, time=False, negation=0).infinitive()
    if choice < 25:
        english, german = draw.pick(_EVALUATIONS)
        return finish(f"{english} {inner[0]}", f"{german}, {inner[1]}")
    if purpose:
        mode = draw.pick((verbs.PROGRESSIVE, verbs.PAST, verbs.FUTURE, verbs.PERFECT))
        main = clauses.clause(draw, subject, draw.pick(_GOING), mode, place=False, negation=0)
        english, german = adverbials.place(draw, draw.pick(verb.places), toward=True)
        main.tail, main.late = join(english, main.tail), join(main.late, german)
        return finish(f"{main.english()} in order {inner[0]}", f"{main.german()}, um {inner[1]}")
    forms = draw.pick(_CONTROL)
    return finish(
        f"{subject.english} {forms[0][subject.person]} {inner[0]}",
        f"{subject.german} {forms[1][subject.person]}, {inner[1]}",
    )
