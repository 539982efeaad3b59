"""The corpus as a whole: size, determinism, splits, and translation as a function in both directions."""

from __future__ import annotations

import pickle
import re
from collections import Counter

import pytest

from jaxformer.data.bundled import BundledCorpus, entries
from jaxformer.types import Pair


@pytest.fixture(scope="module")
def train() -> list[Pair]:
    return list(BundledCorpus("train", 103_500))


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[Pair]]:
    return {split: list(BundledCorpus(split)) for split in ("validation", "test")}


def test_at_least_100000_distinct_pairs_and_few_repetitions(train: list[Pair]) -> None:
    assert len(set(train)) >= 100_000
    assert len(set(train[:60_000])) >= 0.98 * 60_000


def test_translation_is_a_function_both_ways(train: list[Pair], held_out: dict[str, list[Pair]]) -> None:
    pairs = set(train).union(*held_out.values())
    assert len({pair.source for pair in pairs}) == len(pairs)
    assert len({pair.target for pair in pairs}) == len(pairs)


def test_splits_are_disjoint_on_both_sides(train: list[Pair], held_out: dict[str, list[Pair]]) -> None:
    for side in (0, 1):
        sentences = [{pair[side] for pair in pairs} for pairs in (train, *held_out.values())]
        assert len(set.union(*sentences)) == sum(len(each) for each in sentences)


def test_records_do_not_depend_on_how_they_are_read() -> None:
    corpus, again = BundledCorpus("train", 500, seed=3), BundledCorpus("train", 1_000_000, seed=3)
    assert list(corpus) == [corpus[i] for i in range(500)] == [again[i] for i in range(500)] == corpus[:]
    assert corpus[-1] == corpus[499]
    assert pickle.loads(pickle.dumps(corpus))[7] == corpus[7]
    assert len(again) == 1_000_000
    assert len(pickle.dumps(again)) < 1000
    assert again[999_999].source.endswith((".", "?"))


def test_seeds_differ() -> None:
    first, second = (set(BundledCorpus("train", 500, seed=seed)) for seed in (0, 1))
    assert len(first & second) < 50


def test_default_sizes_and_errors() -> None:
    assert [len(BundledCorpus(split)) for split in ("train", "validation", "test")] == [60_000, 1_000, 1_000]
    with pytest.raises(ValueError, match="choose one of train, validation, test"):
        BundledCorpus("dev")
    with pytest.raises(ValueError, match="-1"):
        BundledCorpus("train", -1)
    with pytest.raises(IndexError):
        BundledCorpus("train", 3)[3]


def test_lexicon_is_large_and_one_to_one() -> None:
    assert entries.count() >= 300
    nouns, verbs, adjectives = entries.nouns(), entries.verbs(), entries.adjectives().values()
    for english, german in (
        ([noun.english for noun in nouns], [noun.german for noun in nouns]),
        ([a.english for a in adjectives], [a.german for a in adjectives]),
        (
            [(verb.english[0], verb.particle, verb.preposition[:1]) for verb in verbs],
            [(verb.german[0], verb.preposition[1:2]) for verb in verbs],
        ),
    ):
        for side in (english, german):
            assert [word for word, times in Counter(side).items() if times > 1] == []


def test_sentences_are_well_formed(train: list[Pair]) -> None:
    marks = re.compile(r"[A-ZÄÖÜ][A-Za-zÄÖÜäöüßé',\- ]+[.?]")
    for pair in train[:20_000]:
        for text in pair:
            assert marks.fullmatch(text), text
            assert not re.search(" [ ,.?]", text), text
        assert pair.source[-1] == pair.target[-1]


def test_lengths_are_moderate(train: list[Pair]) -> None:
    lengths = sorted(len(pair.source.split()) for pair in train[:20_000])
    assert lengths[1000] >= 4
    assert 7 <= sum(lengths) / len(lengths) <= 10
    assert lengths[19_000] <= 15
    assert lengths[-1] <= 30


GENDERS = {
    "m": "Mann Arzt Hund Apfel Brief Mantel Tisch Stuhl Hut Park Bahnhof Plan Garten",
    "f": "Frau Kellnerin Katze Tomate Zeitung Jacke Lampe Tasche Flasche Tür Kirche Küche Stadt Frage",
    "n": "Kind Pferd Ei Buch Hemd Auto Radio Sofa Bild Tor Haus Restaurant Problem",
}
ARTICLES = {
    "m": {"ein", "einen", "einem", "der", "den", "dem", "des"}, "f": {"eine", "einer", "die", "der"},
    "n": {"ein", "einem", "das", "dem", "des"},
}


def test_articles_agree_with_hand_written_genders(train: list[Pair]) -> None:
    article = r"(?<!, )\b(ein|eine|einen|einem|einer|der|die|das|den|dem) (?:[a-zäöüß]+ )?"
    for gender, nouns in GENDERS.items():
        # Only nouns whose plural looks different ("die Koffer" would be right too), and no relative pronouns.
        names = "|".join(nouns.split())
        pattern = re.compile(article + rf"({names})\b")
        found = Counter(match[1] for pair in train[:20_000] for match in pattern.finditer(pair.target))
        assert set(found) <= ARTICLES[gender], found
        assert len(found) >= 4


def test_subordinate_clauses_follow_a_comma(train: list[Pair]) -> None:
    seen = Counter[str]()
    for pair in train[:20_000]:
        for word in ("dass", "weil", "obwohl", "ob"):
            if f" {word} " in pair.target:
                assert f", {word} " in pair.target, pair.target
                seen[word] += 1
    assert min(seen[word] for word in ("dass", "weil", "obwohl", "ob")) > 100
