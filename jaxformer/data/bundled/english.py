"""English inflection: articles, verb forms and auxiliaries.

Forms only; what is said and in which order is decided in `phrases.py` and `clauses.py`. Persons are the indices that
`german.py` defines, so that one index inflects both languages.
"""

from __future__ import annotations

from typing import NamedTuple

SUBJECT = ("I", "you", "he", "she", "it", "we", "they", "you")
OBJECT = ("me", "you", "him", "her", "it", "us", "them", "you")
POSSESSIVES = ("my", "your", "his", "her", "its", "our", "their", "your")
_THIRD_SINGULAR = (False, False, True, True, True, False, False, False)


def _by_person(third: str, other: str, first: str = "") -> tuple[str, ...]:
    forms = tuple(third if singular else other for singular in _THIRD_SINGULAR)
    return (first or forms[0], *forms[1:])


DO, HAVE, WILL = _by_person("does", "do"), _by_person("has", "have"), _by_person("will", "will")
DID, CAN, COULD = _by_person("did", "did"), _by_person("can", "can"), _by_person("could", "could")
SHOULD, WOULD = _by_person("should", "should"), _by_person("would", "would")
BE, WAS = _by_person("is", "are", "am"), _by_person("was", "were", "was")


def indefinite(following: str) -> str:
    """`a` or `an` before the word that follows."""
    return "an" if following[0] in "aeioEAIO" or following.startswith(("um", "un ")) else "a"


def third_person(base: str) -> str:
    """`helps`, `goes`, `tidies`; only the first word of a phrasal verb is inflected."""
    word, space, rest = base.partition(" ")
    if word == "have":
        word = "has"
    elif word.endswith(("s", "sh", "ch", "x", "o")):
        word += "es"
    elif word.endswith("y") and word[-2] not in "aeiou":
        word = word[:-1] + "ies"
    else:
        word += "s"
    return word + space + rest


_DOUBLING = frozenset({"get", "put", "run", "sit", "swim", "forget", "travel", "cancel"})


def gerund(base: str) -> str:
    """`helping`, `writing`, `sitting`, `lying`; only the first word of a phrasal verb is inflected."""
    word, space, rest = base.partition(" ")
    if word.endswith("ie"):
        word = word[:-2] + "y"
    elif word.endswith("e") and not word.endswith("ee"):
        word = word[:-1]
    elif word in _DOUBLING:
        word += word[-1]
    return word + "ing" + space + rest


class EnglishGroup(NamedTuple):
    """A verb group: how a mode of speaking inflects one verb.

    Attributes:
      auxiliary: by person; stands before the subject in questions and before `not`.
      rest: what follows the auxiliary.
      finite: by person, the form without an auxiliary in positive statements (`goes`, `has to go`), or empty.
    """

    auxiliary: tuple[str, ...]
    rest: str
    finite: tuple[str, ...]


def simple(base: str, past: str = "", *, before: str = "") -> EnglishGroup:
    """Simple present, or simple past when `past` is given, with do-support; `before` may hold `has to|have to`."""
    if past:
        return EnglishGroup(DID, base, _by_person(past, past))
    if before:
        third, _, other = before.partition("|")
        return EnglishGroup(DO, f"{other} {base}", _by_person(f"{third} {base}", f"{other} {base}"))
    return EnglishGroup(DO, base, _by_person(third_person(base), base))


def compound(auxiliary: tuple[str, ...], rest: str) -> EnglishGroup:
    """A group whose auxiliary is always there: perfect, progressive, future, modals."""
    return EnglishGroup(auxiliary, rest, ())


def negated(auxiliary: str) -> str:
    """`is not`, `cannot`."""
    return "cannot" if auxiliary == "can" else f"{auxiliary} not"
