"""Word order in both languages, on clauses put together by hand, and negation on drawn ones."""

from __future__ import annotations

from jaxformer.data.bundled import clauses, phrases, verbs
from jaxformer.data.bundled.draw import Draw
from jaxformer.data.bundled.german import DAT, FORMAL, HE, ME, SHE, THEY, YOU
from jaxformer.data.bundled.phrases import Subject
from jaxformer.data.bundled.word_order import Clause

ANNA = Subject("Anna", "Anna", SHE)
VERBS = {(verb.english, verb.prepositions[0], verb.particle): verb for verb in verbs.VERBS}
CALL, READ, SLEEP, HELP = (VERBS[name, "", ""] for name in ("call", "read", "sleep", "help"))


def calling(mode: int, subject: Subject = ANNA) -> Clause:
    """Somebody, her brother and yesterday, in the order that definite persons take."""
    result = Clause(subject, CALL, mode)
    result.tail, result.early, result.time = "her brother", "ihren Bruder", ("yesterday", "gestern")
    return result


def test_separable_verb_in_every_position() -> None:
    spoken = calling(verbs.PAST)
    assert spoken.english() == "Anna called her brother yesterday"
    assert spoken.english_question() == "did Anna call her brother yesterday"
    assert spoken.german() == "Anna rief ihren Bruder gestern an"
    assert spoken.german_inverted() == "rief Anna ihren Bruder gestern an"
    assert spoken.german_inverted(time=False) == "rief Anna ihren Bruder an"
    assert spoken.german_final() == "Anna ihren Bruder gestern anrief"
    assert spoken.infinitive()[1] == "ihren Bruder gestern anzurufen"


def test_compound_groups_close_the_clause() -> None:
    expected = {
        verbs.PERFECT: ("has called", "hat", "angerufen", "angerufen hat"),
        verbs.FUTURE: ("will call", "wird", "anrufen", "anrufen wird"),
        verbs.HAVE_TO: ("has to call", "muss", "anrufen", "anrufen muss"),
        verbs.WAS_ALLOWED: ("was allowed to call", "durfte", "anrufen", "anrufen durfte"),
        verbs.PROGRESSIVE: ("is calling", "ruft", "an", "anruft"),
    }
    for mode, (english, finite, right, final) in expected.items():
        spoken = calling(mode)
        assert spoken.english() == f"Anna {english} her brother yesterday"
        assert spoken.german() == f"Anna {finite} ihren Bruder gestern {right}"
        assert spoken.german_final() == f"Anna ihren Bruder gestern {final}"


def test_object_pronoun_goes_before_a_heavy_subject_only() -> None:
    for subject, expected in ((ANNA, "half mir Anna"), (phrases.pronoun_subject(HE), "half er mir")):
        spoken = Clause(subject, HELP, verbs.PAST)
        spoken.tail, spoken.pronoun = "me", "mir"
        assert spoken.german_inverted() == expected
    assert spoken.german() == "er half mir"
    assert spoken.german_final() == "er mir half"


def test_english_negation_and_do_support() -> None:
    for mode, statement, question in (
        (verbs.SIMPLE, "Anna does not sleep", "does Anna not sleep"),
        (verbs.PAST, "Anna did not sleep", "did Anna not sleep"),
        (verbs.CAN, "Anna cannot sleep", "can Anna not sleep"),
        (verbs.HAVE_TO, "Anna does not have to sleep", "does Anna not have to sleep"),
        (verbs.PROGRESSIVE, "Anna is not sleeping", "is Anna not sleeping"),
    ):
        spoken = Clause(ANNA, SLEEP, mode)
        spoken.negated = True
        assert spoken.english() == statement
        assert spoken.english_question() == question


def drawn(
    verb: verbs.Verb, mode: int, subject: Subject = ANNA, *, count: int = 300, question: bool = False,
    negation: int = 13,
) -> list[Clause]:
    return [
        clauses.clause(Draw(b"%d" % i), subject, verb, mode, question=question, negation=negation) for i in range(count)
    ]


def test_past_of_you_is_spoken_german() -> None:
    for person in (YOU, FORMAL):
        for spoken in drawn(READ, verbs.PAST, phrases.pronoun_subject(person), question=True):
            assert spoken.german_inverted().startswith("hast du" if person == YOU else "haben Sie")
            assert "gelesen" in spoken.german_inverted()


def test_past_that_looks_like_present_is_avoided() -> None:
    they_read = drawn(READ, verbs.PAST, phrases.pronoun_subject(THEY), negation=0)
    assert all(spoken.english().startswith("they will ") for spoken in they_read)
    assert all(" read " in spoken.english() for spoken in drawn(READ, verbs.PAST, negation=0))


def test_negation_is_said_once() -> None:
    seen = set()
    for verb in verbs.ACTIONS:
        if verb.english == "play" and verb.frame == "accusative":
            continue
        for spoken in drawn(verb, verbs.PAST, negation=100, count=20):
            words = spoken.german().split()
            said = [word for word in words if word == "nicht" or word.startswith("kein")]
            assert len(said) == 1, spoken.german()
            assert spoken.english().startswith("Anna did not ")
            seen.add(said[0])
    assert {"nicht", "keinen", "keine", "kein"} <= seen


def test_definite_objects_precede_nicht() -> None:
    sell = VERBS["sell", "", ""]
    for spoken in drawn(sell, verbs.PAST, negation=100):
        words = spoken.german().split()
        if "nicht" in words and " in " not in spoken.english() and " at " not in spoken.english():
            assert words[-1] == "nicht", spoken.german()


def test_possessive_ihr_refers_to_the_subject() -> None:
    for subject in (ANNA, phrases.pronoun_subject(ME), phrases.pronoun_subject(HE)):
        said = " ".join(c.english() for c in drawn(VERBS["look for", "", ""], verbs.PAST, subject, count=500)).split()
        assert ("her" in said) == (subject.person == SHE)
        assert ("his" in said) == (subject.person == HE)
        assert "their" not in said


def test_accusative_pronouns_are_never_the_ambiguous_sie() -> None:
    for person in range(8):
        for i in range(200):
            english, german = phrases.object_pronoun(Draw(b"%d" % i), 1, person)
            assert german != "sie"
            assert english not in ("her", "them")
    assert any(phrases.object_pronoun(Draw(b"%d" % i), DAT, ME) == ("her", "ihr") for i in range(50))
