"""Question patterns: yes-no questions and questions for every part of a clause."""

from __future__ import annotations

from jaxformer.data.bundled import clauses, german as de, phrases, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import FORMAL, HE, THEY, YOU
from jaxformer.data.bundled.phrases import Subject, Text
from jaxformer.data.bundled.verbs import Verb
from jaxformer.data.bundled.word_order import finish

_QUESTION_MODES = (
    verbs.PROGRESSIVE, verbs.PROGRESSIVE, verbs.PAST, verbs.PAST, verbs.PERFECT, verbs.FUTURE, verbs.WANT,
    verbs.HAVE_TO, verbs.SHOULD, verbs.CAN,
)
_WHEN_MODES = (verbs.PAST, verbs.FUTURE, verbs.HAVE_TO, verbs.WANT)
_INFORMAL = phrases.pronoun_subject(YOU)
_POLITE = phrases.pronoun_subject(FORMAL)
_THEY = phrases.pronoun_subject(THEY)


def _questioned(draw: Draw) -> tuple[Subject, Text]:
    """Who a question is about, and whom it addresses: "you" is `Sie` for Mrs Weber and `du` for anyone else."""
    choice = draw.below(100)
    if choice < 15:
        english, german = draw.pick(phrases.VOCATIVES)
        return _POLITE, (f", {english}", f", {german}")
    if choice < 35:
        return _INFORMAL, ("", "")
    subject = phrases.person_subject(draw)
    return (_THEY if subject.person == de.ME else subject), ("", "")


def _question_mode(draw: Draw, verb: Verb, subject: Subject) -> int:
    """A mode that one asks about; nobody asks people what they should do."""
    mode = clauses.choose_mode(draw, verb)
    if verb.aspect in ("action", "event") and verb.frame != "posture":
        mode = draw.pick(_QUESTION_MODES)
    return verbs.CAN if mode == verbs.SHOULD and subject.person in (YOU, FORMAL) else mode


def yes_no_question(draw: Draw) -> Text:
    """"Did you see the house, Mrs Weber?\""""
    subject, (english, german) = _questioned(draw)
    verb = draw.pick(verbs.STATES if draw.chance(12) else verbs.EVERYDAY)
    spoken = clauses.clause(draw, subject, verb, _question_mode(draw, verb, subject), question=True, negation=5)
    return finish(f"{spoken.english_question()}{english}", f"{spoken.german_inverted()}{german}", "?")


_WHO = Subject("who", "wer", HE)


def wh_question(draw: Draw) -> Text:
    """A question for the object, the subject, the place, the goal, the time or the reason."""
    kind = draw.below(7)
    if kind == 0:
        verb = draw.pick(verbs.ACTIONS)
        spoken = clauses.clause(draw, _WHO, verb, _question_mode(draw, verb, _WHO), negation=5)
        return finish(spoken.english(), spoken.german(), "?")
    subject, (english_name, german_name) = _questioned(draw)
    asked_object, asked_place, asked_time = kind in (1, 2), kind in (3, 4), kind == 5
    if kind == 1:
        verb, question = draw.pick(verbs.OF_THINGS), ("what", "was")
    elif kind == 2:
        verb = draw.pick(verbs.OF_PERSONS)
        question = ("who", "wem" if verb.frame == "dative" else "wen")
    elif kind == 3:
        verb, question = draw.pick(verbs.SOMEWHERE), ("where", "wo")
    elif kind == 4:
        verb, question = draw.pick(verbs.GOING), ("where", "wohin")
    else:
        verb, question = draw.pick(verbs.ACTIONS), ("when", "wann") if asked_time else ("why", "warum")
    mode = draw.pick(_WHEN_MODES) if asked_time else _question_mode(draw, verb, subject)
    spoken = clauses.clause(
        draw, subject, verb, mode, question=True, object_=not asked_object, place=not asked_place,
        time=not asked_time, negation=15 if kind == 6 else 0,
    )
    return finish(
        f"{question[0]} {spoken.english_question()}{english_name}",
        f"{question[1]} {spoken.german_inverted()}{german_name}", "?",
    )
