import random

import pytest

from jaxformer.data.splitting import split_line


def at_most(words):
    return lambda text: len(text.split()) <= words


def test_what_fits_stays_whole():
    assert split_line("One. Two. Three.", at_most(3)) == ["One. Two. Three."]


def test_sentences_are_cut_apart_first():
    text = 'He left. "Why?" she asked (twice!) Nobody knew… The 3.5 km walk, though, was long.'
    assert split_line(text, at_most(8)) == [
        "He left.",
        '"Why?"',
        "she asked (twice!)",
        "Nobody knew…",
        "The 3.5 km walk, though, was long.",
    ]


def test_long_sentences_are_cut_at_clauses_joined_as_far_as_they_fit():
    text = "Short one. When the rain came, we ran, the dog too; nobody looked back – not once."
    assert split_line(text, at_most(6)) == [
        "Short one.",
        "When the rain came, we ran,",
        "the dog too; nobody looked back",
        "– not once.",
    ]


def test_without_punctuation_words_are_cut():
    assert split_line("a b c d e f g", at_most(3)) == ["a b c", "d e f", "g"]
    assert split_line("a b c d e, f", at_most(3)) == ["a b c", "d e,", "f"]


def test_a_word_that_is_too_long_is_halved():
    assert split_line("ab abcdefgh c", lambda text: len(text) <= 4) == ["ab", "abcd", "efgh", "c"]
    assert split_line("这是第一句话。这是第二句话，很长。", lambda text: len(text) <= 7) == [
        "这是第一句话。",
        "这是第二句话，",
        "很长。",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_everything_fits(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice("abcd ,.!? ;-(“x") for _ in range(3000)).strip()
    for limit in (1, 2, 7, 50):
        parts = split_line(text, lambda part, limit=limit: len(part) <= limit)
        assert all(0 < len(part) <= limit for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())


def test_pieces_are_joined_only_as_far_as_they_may_be():
    at_most_two = lambda text: len(text.split()) <= 2  # noqa: E731
    assert split_line("a b c d e f g", at_most(3), at_most_two) == ["a b", "c d", "e f", "g"]
    assert split_line("a b c. d e f. g", at_most(3), at_most_two) == ["a b c.", "d e f.", "g"]
