"""A clause ordered as English and as German: main, interrogative, subordinate or infinitive.

The middle of a German clause follows one order everywhere: pronouns, what is `early`, the time, what is `late`; what
goes where is for `clauses.py` to say.
"""

from __future__ import annotations

from jaxformer.data.bundled import english as en
from jaxformer.data.bundled.phrases import Subject, Text
from jaxformer.data.bundled.verbs import Verb

NOTHING: Text = ("", "")


def join(*parts: str) -> str:
    """The parts that are not empty, with spaces between them."""
    return " ".join(filter(None, parts))


def finish(english: str, german: str, mark: str = ".") -> Text:
    """Both sentences with a capital letter and their final mark."""
    return f"{english[0].upper()}{english[1:]}{mark}", f"{german[0].upper()}{german[1:]}{mark}"


class Clause:
    """A subject, a verb group and what goes with it, not ordered yet.

    Attributes:
      subject: who.
      group: the verb in its mode.
      negated: whether English says "not" (German may say `kein` inside an object instead).
      adverb: English adverb before the verb ("often", "already"); the German one is part of `late`.
      tail: English objects and adverbials after the verb, without the time.
      time: when, in both languages; empty parts if unsaid.
      pronoun: German object pronouns, which stand first in the middle.
      early, late: German middle before and after the time.
    """

    __slots__ = ("adverb", "early", "group", "late", "negated", "pronoun", "subject", "tail", "time", "zu")

    def __init__(self, subject: Subject, verb: Verb, mode: int) -> None:
        self.subject, self.group, self.zu = subject, verb.groups[mode], verb.infinitive_zu
        self.negated = False
        self.adverb = self.tail = self.pronoun = self.early = self.late = ""
        self.time = NOTHING

    def english(self, *, time: bool = True) -> str:
        """Subject first; `time` at the end unless it was said before."""
        auxiliary, rest, finite = self.group.english
        person = self.subject.person
        if self.negated:
            verb = f"{en.negated(auxiliary[person])} {rest}"
        elif finite:
            verb = join(self.adverb, finite[person])
        else:
            verb = join(auxiliary[person], self.adverb, rest)
        return join(self.subject.english, verb, self.tail, self.time[0] if time else "")

    def english_question(self) -> str:
        """The auxiliary first; without the question mark."""
        auxiliary, rest, _ = self.group.english
        negation = "not" if self.negated else ""
        return join(
            auxiliary[self.subject.person], self.subject.english, negation, self.adverb, rest, self.tail, self.time[0]
        )

    def german(self) -> str:
        """Main clause with the subject in front."""
        person = self.subject.person
        return join(
            self.subject.german, self.group.german[person], self.pronoun, self.early, self.time[1], self.late,
            self.group.right,
        )

    def german_inverted(self, *, time: bool = True) -> str:
        """The finite verb first: after something in front of it, or as a question."""
        finite, pronoun, subject = self.group.german[self.subject.person], self.pronoun, self.subject
        # A short pronoun goes before a heavy subject: "Gestern half mir der Mann".
        first, second = (subject.german, pronoun) if subject.is_pronoun else (pronoun, subject.german)
        return join(finite, first, second, self.early, self.time[1] if time else "", self.late, self.group.right)

    def german_final(self) -> str:
        """Subordinate clause: the verb last."""
        final = self.group.final[self.subject.person]
        return join(self.subject.german, self.pronoun, self.early, self.time[1], self.late, final)

    def infinitive(self) -> Text:
        """"To read the book", `das Buch zu lesen`; the subject is unsaid."""
        _, rest, _ = self.group.english
        return (
            join("to", rest, self.tail, self.time[0]),
            join(self.pronoun, self.early, self.time[1], self.late, self.zu),
        )
