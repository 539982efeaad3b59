"""The top of the synchronous grammar: plain statements, and the choice among all sentence patterns.

Each pattern draws one meaning and returns it as an English and a German sentence. Not for splits and seeds, which are
`corpus.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxformer.data.bundled import clauses, facts, phrases, questions, subordination, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import DAT, GEN
from jaxformer.data.bundled.phrases import NOUNS, OF_KIND, THE, Text
from jaxformer.data.bundled.word_order import finish

_NEVER_IN_FRONT = frozenset({"right now"})
_EVENTS = tuple(noun for noun in OF_KIND["event"] if noun.english not in ("journey", "film", "breakfast"))


def _around_event(draw: Draw) -> Text:
    """Before, during or after an event; because of or despite the weather."""
    if draw.chance(45):
        noun = draw.pick(tuple(NOUNS[name] for name in ("rain", "snow", "cold", "heat", "noise", "weather")))
        english, german, case = draw.pick((("because of", "wegen", GEN), ("despite", "trotz", GEN)))
    else:
        noun = draw.pick(_EVENTS)
        english, german, case = draw.pick((("before", "vor", DAT), ("after", "nach", DAT), ("during", "während", GEN)))
    phrase = phrases.spell(noun, False, THE, None, case)
    return f"{english} {phrase[0]}", f"{german} {phrase[1]}"


def statement(draw: Draw) -> Text:
    """A main clause, with the time in front in one of three cases."""
    if draw.chance(3):
        spoken = clauses.animal_clause(draw)
    elif draw.chance(4):
        spoken = clauses.person_clause(draw, verb=draw.pick(verbs.LIKED), mode=verbs.LIKE)
    elif draw.chance(7):
        spoken = clauses.clause(
            draw, phrases.person_subject(draw), draw.pick(verbs.ACTIONS), verbs.PAST, time=False, negation=0
        )
        spoken.time = _around_event(draw)
    else:
        spoken = clauses.person_clause(draw)
    english, german = spoken.time
    if english and draw.chance(35) and english not in _NEVER_IN_FRONT:
        return finish(f"{english}, {spoken.english(time=False)}", f"{german} {spoken.german_inverted(time=False)}")
    return finish(spoken.english(), spoken.german())


_PATTERNS: tuple[tuple[Callable[[Draw], Text], int], ...] = (
    (statement, 44), (questions.yes_no_question, 9), (questions.wh_question, 10), (subordination.reported, 8),
    (subordination.reasoned, 7), (subordination.conditional, 3), (subordination.simultaneous, 3),
    (subordination.relative, 5), (subordination.infinitive, 5), (facts.description, 4), (facts.comparison, 3),
    (facts.quantity, 3), (facts.appointment, 2),
)
"""The patterns and their weights."""
_BY_WEIGHT = tuple(pattern for pattern, weight in _PATTERNS for _ in range(weight))


def sentence(draw: Draw) -> Text:
    """One sentence of the corpus in English and German."""
    return draw.pick(_BY_WEIGHT)(draw)
