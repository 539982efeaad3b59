"""Clauses: a subject and a verb with its mode, objects and adverbials, each put in its place in both languages.

In the middle of a German clause, after the pronouns, these places are: time, frequency, company, manner, place,
accusative, prepositional object, goal. Definite datives and persons come before the time; under negation, and with
`schon`, all definite objects do, and `nicht` takes the place of the frequency. English has objects, goal, manner,
place, company, time. Nothing here chooses words except through `phrases.py`; verb and middle are put together in
`word_order.py`, whole sentences in `sentences.py` and its neighbours.
"""

from __future__ import annotations

from jaxformer.data.bundled import adverbials, german as de, phrases, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import ACC, DAT, FORMAL, HE, IT, SHE, THEY, YOU
from jaxformer.data.bundled.phrases import Noun, Subject, Text
from jaxformer.data.bundled.verbs import Verb
from jaxformer.data.bundled.word_order import NOTHING, Clause, join

_EVENT_MODES = (
    *(verbs.PROGRESSIVE,) * 5, *(verbs.PAST,) * 8, *(verbs.PERFECT,) * 4, *(verbs.FUTURE,) * 5, verbs.CAN,
    verbs.HAVE_TO, verbs.HAVE_TO, verbs.WANT, verbs.WANT, verbs.SHOULD, verbs.MAY, verbs.WOULD_LIKE, verbs.COULD,
    verbs.HAD_TO, verbs.WANTED, verbs.WAS_ALLOWED,
)
_MODES = {
    "action": _EVENT_MODES + (verbs.SIMPLE,) * 5, "event": _EVENT_MODES, "state": (verbs.SIMPLE,),
    "punctual": (verbs.PAST, verbs.PAST, verbs.PERFECT), "mental": (verbs.PROGRESSIVE, verbs.PROGRESSIVE, verbs.PAST),
}
_POSTURE_MODES = (verbs.PROGRESSIVE, verbs.PROGRESSIVE, verbs.PAST)
_TENSES = {
    verbs.PROGRESSIVE: (adverbials.PRESENT, 35), verbs.CAN: (adverbials.PRESENT, 20),
    verbs.PAST: (adverbials.PAST, 65), verbs.COULD: (adverbials.PAST, 30), verbs.HAD_TO: (adverbials.PAST, 55),
    verbs.WANTED: (adverbials.PAST, 30), verbs.WAS_ALLOWED: (adverbials.PAST, 40),
    verbs.FUTURE: (adverbials.FUTURE, 55), verbs.HAVE_TO: (adverbials.FUTURE, 35), verbs.WANT: (adverbials.FUTURE, 35),
    verbs.SHOULD: (adverbials.FUTURE, 15), verbs.MAY: (adverbials.FUTURE, 20),
    verbs.WOULD_LIKE: (adverbials.FUTURE, 35),
}
"""The times that go with a mode, and in how many of a hundred clauses one is said."""
_PLAIN_TIMES = {
    adverbials.PRESENT: (("today", "heute"), ("now", "jetzt"), ("this evening", "heute Abend")),
    adverbials.PAST: (("yesterday", "gestern"), ("yesterday evening", "gestern Abend"), ("last week", "letzte Woche")),
    adverbials.FUTURE: (("tomorrow", "morgen"), ("next week", "nächste Woche"), ("today", "heute")),
}
"""Times that sit well under a negation."""
_NEVER_NEGATED = frozenset({verbs.SIMPLE, verbs.LIKE, verbs.WOULD_LIKE, verbs.PAST_PROGRESSIVE})


def choose_mode(draw: Draw, verb: Verb) -> int:
    """A mode that suits the aspect of `verb`."""
    return draw.pick(_POSTURE_MODES if verb.frame == "posture" else _MODES[verb.aspect])


def _settle_mode(verb: Verb, mode: int, person: int, question: bool) -> int:
    """Replaces modes that would be ambiguous or stilted for this subject, see `verbs.py`."""
    if person in (YOU, FORMAL) and mode == verbs.PERFECT:
        mode = verbs.PAST
    if mode == verbs.PAST and verb.homograph and not question and person not in (HE, SHE, IT):
        return verbs.FUTURE  # "they read", "they put": past or present?
    return verbs.PAST_SPOKEN if mode == verbs.PAST and person in (YOU, FORMAL) else mode


def clause(
    draw: Draw, subject: Subject, verb: Verb, mode: int, *, question: bool = False, object_: bool = True,
    place: bool = True, time: bool = True, negation: int = 13,
) -> Clause:
    """A clause with the objects of `verb` and some adverbials.

    Args:
      draw: where choices come from.
      subject: who.
      verb: what.
      mode: how, one of `verbs.MODES`.
      question: whether English will invert it.
      object_: say the (last) object; not when a question asks for it.
      place: allow a place and demand a goal; not when a question asks for it.
      time: allow a time.
      negation: in how many of a hundred cases it is negated, where it can be.
    """
    settled = _settle_mode(verb, mode, subject.person, question)
    result = Clause(subject, verb, settled)
    negated = draw.chance(negation) and (settled not in _NEVER_NEGATED or verb.aspect == "state")
    if verb.frame == "accusative" and verb.english == "play":
        negated = False  # `nicht` would have to stand before the bare instrument
    adverb = _say_when(draw, result, verb, verbs.PAST if settled == verbs.PAST_SPOKEN else settled, negated, time)
    objects = _Objects(draw, result, verb, negated, object_, general=settled == verbs.LIKE)
    _arrange(draw, result, verb, objects, adverb, place)
    return result


def _say_when(draw: Draw, result: Clause, verb: Verb, mode: int, negated: bool, allowed: bool) -> Text:
    """Sets the time of the clause; returns the adverb that goes with the verb."""
    if mode == verbs.LIKE:
        return "", "gern"
    if mode == verbs.SIMPLE and verb.aspect != "state":
        if draw.chance(55) or not allowed:
            return draw.pick(adverbials.FREQUENCIES)
        result.time = adverbials.time(draw, adverbials.HABIT)
        return NOTHING
    if mode == verbs.PERFECT and not negated and draw.chance(30):
        return "already", "schon"
    if allowed and mode in _TENSES:
        tense, percent = _TENSES[mode]
        if draw.chance(percent):
            result.time = draw.pick(_PLAIN_TIMES[tense]) if negated else adverbials.time(draw, tense)
    return NOTHING


class _Objects:
    """The objects of one clause: English in order, German by the place they take."""

    __slots__ = ("absorbed", "early", "english", "middle", "middle_definite", "negated", "prepositional")

    def __init__(
        self, draw: Draw, result: Clause, verb: Verb, negated: bool, said: bool, general: bool
    ) -> None:
        self.english = self.early = self.middle = self.prepositional = ""
        self.negated, self.absorbed, self.middle_definite = negated, False, True
        subject = result.subject
        if verb.reflexive:
            result.pronoun = de.REFLEXIVE[subject.person]
        frame = verb.frame
        if frame == "ditransitive":
            recipient, german, is_pronoun = _recipient(draw, subject)
            self.english = recipient
            if is_pronoun:
                result.pronoun = german
            else:
                self.early = german
        if not verb.objects or not said:
            return
        noun = draw.pick(verb.objects)
        case = verb.case if frame == "prepositional" else DAT if frame == "dative" else ACC
        if general:
            phrase = phrases.bare_phrase(draw, noun, case)
            english, german, definite, is_pronoun = phrase.english, phrase.german, False, False
        else:
            english, german, definite, is_pronoun = _object(draw, noun, case, subject, negated, verb)
        self.absorbed = negated and not definite
        self.english = join(self.english, verb.prepositions[0], english)
        if frame == "prepositional":
            self.prepositional = de.preposition(verb.prepositions[1], german)
        elif is_pronoun:
            result.pronoun = german
        elif definite and (frame == "dative" or noun.kind in phrases.HUMAN):
            self.early = german
        else:
            self.middle = german
            self.middle_definite = definite


def _recipient(draw: Draw, subject: Subject) -> tuple[str, str, bool]:
    """Who gets something: always definite."""
    choice = draw.below(100)
    if choice < 35:
        return (*phrases.object_pronoun(draw, DAT, subject.person), True)
    if choice < 50:
        name, _ = draw.pick(phrases.NAMES)
        if name not in subject.english:
            return name, name, False
    noun = draw.pick(phrases.PERSONS if choice < 80 else phrases.FAMILY)
    if noun.english in subject.english:
        return (*phrases.object_pronoun(draw, DAT, subject.person), True)
    determiner = draw.pick(phrases.POSSESSIVES[subject.person]) if choice >= 80 else phrases.THE
    return (*phrases.spell(noun, False, determiner, None, DAT), False)


def _object(
    draw: Draw, noun: Noun, case: int, subject: Subject, negated: bool, verb: Verb
) -> tuple[str, str, bool, bool]:
    """English, German, whether it is definite, and whether it is a pronoun."""
    if noun.kind in phrases.HUMAN:
        choice = draw.below(100)
        name, _ = draw.pick(phrases.NAMES)
        if choice < 22 or noun.english in subject.english:
            return (*phrases.object_pronoun(draw, case, subject.person), True, True)
        if choice < 36 and name not in subject.english:
            return name, name, True, False
    # "On no picture" and "to no singer" are possible but stilted.
    known = verb.known_object or (negated and verb.frame in ("dative", "prepositional"))
    phrase = phrases.noun_phrase(draw, noun, case, subject.person, negated, verb.one_object, known)
    return phrase.english, phrase.german, phrase.definite, False


def _arrange(draw: Draw, result: Clause, verb: Verb, objects: _Objects, adverb: Text, place: bool) -> None:
    """Puts objects and adverbials in their order on both sides."""
    negated = objects.negated
    goal = _goal(draw, verb) if place else NOTHING
    company, manner, where = _circumstances(draw, result.subject, verb, objects, place and not goal[0])
    nicht = "nicht" if negated and not objects.absorbed else ""
    result.negated = negated
    result.adverb = adverb[0]
    result.tail = join(objects.english, verb.particle, goal[0], manner[0], where[0], company[0])
    result.early, middle = objects.early, objects.middle
    if (nicht or adverb[1] == "schon") and objects.middle_definite:
        result.early, middle = join(result.early, middle), ""
    result.late = join(
        adverb[1], nicht, company[1], manner[1], where[1], middle, objects.prepositional, goal[1]
    )


def _goal(draw: Draw, verb: Verb) -> Text:
    """Where a motion leads."""
    frame = verb.frame
    if frame == "motion":
        return adverbials.HOMEWARD if draw.chance(8) else adverbials.place(draw, draw.pick(verb.places), toward=True)
    if frame == "travel":
        english, german = draw.pick(phrases.CITIES)
        return f"to {english}", f"nach {german}"
    if frame == "put":
        return adverbials.position(draw, toward=True)
    return NOTHING


_LIVING_ROOM = adverbials.PLACES["living room"]
_MEDIAL_PLACES = frozenset({"accusative", "intransitive", "dative", "prepositional", "ditransitive", "posture"})


def _circumstances(
    draw: Draw, subject: Subject, verb: Verb, objects: _Objects, place: bool
) -> tuple[Text, Text, Text]:
    """With whom, how and where."""
    company = manner = where = NOTHING
    choice = draw.below(100)
    if verb.social and choice < 20:
        company = _company(draw, subject)
    elif verb.benefactive and place and not objects.negated and choice < 18:
        company = _relative(draw, subject, ("for", "für"), ACC)
    elif verb.manners and not objects.negated and (objects.english or not verb.objects) and choice < 22:
        manner = draw.pick(verb.manners)
    if place and verb.places and verb.frame in _MEDIAL_PLACES:
        posture = verb.frame == "posture"
        if posture or draw.chance(28 if verb.objects else 50):
            at_home = verb.frame == "intransitive" and _LIVING_ROOM in verb.places and draw.chance(12)
            where = adverbials.AT_HOME if at_home else adverbials.place(draw, draw.pick(verb.places), toward=False)
    return company, manner, where


def _company(draw: Draw, subject: Subject) -> Text:
    if draw.chance(30):
        name, _ = draw.pick(phrases.NAMES)
        if name not in subject.english:
            return f"with {name}", f"mit {name}"
    if draw.chance(30) and subject.person != THEY:
        return ("alone", "allein") if subject.person != de.WE else ("together", "zusammen")
    if draw.chance(15):
        return _relative(draw, subject, ("without", "ohne"), ACC)
    return _relative(draw, subject, ("with", "mit"), DAT)


def _relative(draw: Draw, subject: Subject, prepositions: Text, case: int) -> Text:
    """With, without or for somebody of the family."""
    noun = draw.pick(phrases.FAMILY)
    if noun.english in subject.english:
        return NOTHING
    english, german = phrases.spell(noun, False, draw.pick(phrases.POSSESSIVES[subject.person]), None, case)
    return f"{prepositions[0]} {english}", f"{prepositions[1]} {german}"


def animal_clause(draw: Draw) -> Clause:
    """An animal asleep, or lying, sitting or standing somewhere outside."""
    verb = draw.pick(verbs.ANIMAL)
    subject = phrases.subject_phrase(draw, draw.pick(phrases.OF_KIND["animal"]))
    result = Clause(subject, verb, draw.pick((verbs.PROGRESSIVE, verbs.PROGRESSIVE, verbs.PAST)))
    where = adverbials.place(draw, draw.pick(verbs.PLACE_SETS["animal"]), toward=False)
    result.tail, result.late = where
    return result


def person_clause(draw: Draw, verb: Verb | None = None, mode: int | None = None) -> Clause:
    """A person doing something, or in a state; a verb or mode that is not given is drawn."""
    if verb is None:
        verb = draw.pick(verbs.STATES if draw.chance(9) else verbs.EVERYDAY)
    if mode is None:
        mode = choose_mode(draw, verb)
    return clause(draw, phrases.person_subject(draw), verb, mode)
