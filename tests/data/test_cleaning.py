"""Each rule changes or drops what it should, and is counted."""

import random
import unicodedata

import pytest

from jaxformer.config import DataConfig
from jaxformer.data.cleaning import Cleaner, CleaningReport, has_text
from jaxformer.types import Pair


@pytest.mark.parametrize(
    ("text", "expected", "changes"),
    [
        ("plain text", "plain text", set()),
        ("größer", "größer", set()),
        ("gro\u0308ßer", "größer", {"unicode"}),
        ("a\u00a0b", "a\u00a0b", set()),  # a no-break space is text
        ("a\tb\x0bc", "a b c", {"control"}),
        ("a\u200bb\ufeff\x00c\x9f", "abc", {"control"}),
        ("a\u2028b\x85c", "a b c", {"control"}),
        ("zero\u200djoiner", "zero\u200djoiner", set()),
        ("  a   b ", "a b", {"spaces"}),
        ("\t e\u0301  ", "é", {"control", "unicode", "spaces"}),
        ("O\ufeff\u0301", "Ó", {"control", "unicode"}),  # what is removed may stand between the parts of a letter
    ],
)
def test_normalisation(text: str, expected: str, changes: set[str]) -> None:
    assert Cleaner(DataConfig()).normalize(text) == (expected, changes)


def test_the_unicode_form_is_chosen() -> None:
    text = "ﬁ e\u0301"
    assert Cleaner(DataConfig(normalization="nfc")).normalize(text)[0] == "ﬁ é"
    assert Cleaner(DataConfig(normalization="nfkc")).normalize(text)[0] == "fi é"
    assert Cleaner(DataConfig(normalization="none")).normalize(text)[0] == text


@pytest.mark.parametrize("form", ["nfc", "nfkc", "none"])
def test_a_second_pass_changes_nothing(form: str) -> None:
    draw, cleaner = random.Random(0), Cleaner(DataConfig(normalization=form))
    awkward = "aO \t\x00\x85\u00a0\u00b4\u0301\u0323\u1100\u1161\u200b\u2028\u3000\ufb01\ufeff"
    for _ in range(2000):
        text = "".join(chr(draw.randrange(0x3100)) if draw.random() < 0.2 else draw.choice(awkward) for _ in range(8))
        once, _ = cleaner.normalize(text)
        assert cleaner.normalize(once) == (once, set()), ascii(text)
        assert form == "none" or unicodedata.is_normalized(form.upper(), once), ascii(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", " \t", "\u3000", "\xad", "\u2060", "\u200b", "\u200d \u200e", "\ufe0f", "\u3164"])
def test_what_nobody_sees_is_no_text(text: str) -> None:
    assert not has_text(text)
    assert has_text(f"{text}.")
    assert has_text(f"\u0301{text}")
    cleaner = Cleaner(DataConfig())
    assert cleaner.clean([Pair("one", text), Pair(text, "eins")]) == []
    assert cleaner.report.empty == 2


def test_every_rule_is_counted_and_reported() -> None:
    cleaner = Cleaner(DataConfig(max_length_ratio=2.0))
    kept = cleaner.clean(
        [
            Pair("one two", "eins zwei"),
            Pair("", "leer"),
            Pair("empty", " \t"),
            Pair("one two three", "eins"),  # 3 to 1
            Pair("one two", "eins zwei drei vier"),  # 2 to 1 is allowed
            Pair("e\u0301", "a\x00"),
        ]
    )
    assert kept == [Pair("one two", "eins zwei"), Pair("one two", "eins zwei drei vier"), Pair("é", "a")]
    assert cleaner.report == CleaningReport(read=6, empty=2, length_ratio=1, unicode=1, control=2, spaces=1)
    assert cleaner.report.kept == 3
    cleaner.report.add(CleaningReport(read=10, too_long=3, duplicates=4))
    rows = [line.split() for line in cleaner.report.table().splitlines()]
    assert {" ".join(row[:-3]): int(row[-3]) for row in rows} == {
        "pairs read": 16,
        "dropped: empty side": 2,
        "dropped: length ratio over the limit": 1,
        "dropped: longer than max_length tokens": 3,
        "dropped: exact repetition": 4,
        "pairs kept": 6,
        "changed: Unicode normalised": 1,
        "changed: control characters removed": 2,
        "changed: spaces trimmed": 1,
    }


def test_without_a_ratio_limit_no_pair_is_dropped_for_it() -> None:
    assert len(Cleaner(DataConfig()).clean([Pair("a b c d e f g h", "x")])) == 1


def test_evaluation_pairs_are_normalised_but_kept() -> None:
    cleaner = Cleaner(DataConfig(max_length_ratio=1.5))
    assert cleaner.normalize_pair(Pair(" ", "a  b c d")) == Pair("", "a b c d")


def test_references_keep_what_a_reader_sees() -> None:
    cleaner = Cleaner(DataConfig(normalization="nfkc"))
    assert cleaner.evaluation_pair(Pair("ﬁne… ", "ﬁ e\u0301…")) == Pair("fine...", "ﬁ é…")
    assert Cleaner(DataConfig(normalization="none")).evaluation_pair(Pair("e\u0301", "e\u0301")).target == "e\u0301"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("I like apples and pears.", "我喜欢苹果和梨。"),
        ("I like apples and pears very much.", "りんごと梨がとても好きです。"),
        ("I like to eat red apples.", "ฉันชอบกินแอปเปิ้ลแดง"),
        ("Where is the railway station?", "기차역이 어디에 있습니까?"),
    ],
)
def test_scripts_without_spaces_are_not_taken_for_one_long_word(source: str, target: str) -> None:
    cleaner = Cleaner(DataConfig(max_length_ratio=2.5))
    assert len(cleaner.clean([Pair(source, target), Pair(target, source)])) == 2
    assert not cleaner.clean([Pair(source, target[:1]), Pair(target * 8, source)])
