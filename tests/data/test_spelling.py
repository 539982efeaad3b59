"""Spellings: which n-grams a word has, and that every token of a text has those of its own word."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data.bucketing import Shape
from jaxformer.data.classify import TextEncoder
from jaxformer.data.spelling import Spelling
from jaxformer.data.tokenizer import train_text_tokenizer
from jaxformer.types import BOS_ID, EOS_ID, SPELLING_SIZE, UNK_ID

TEXTS = ["a warm film", "a dull film , and long", "warm and funny"] * 4


def _encoder(*, first: bool = False, max_length: int = 8, spelling: int = 50) -> TextEncoder:
    config = DataConfig(tokenizer="word", vocabulary_size=11, max_length=max_length, spelling=spelling)
    return TextEncoder(train_text_tokenizer(TEXTS, config), config, first=first)


def test_a_word_is_its_n_grams_between_marks():
    grams = ["<wa", "war", "arm", "rm>", "<war", "warm", "arm>", "<warm", "warm>"]
    numbers = sorted({100 + zlib.crc32(gram.encode()) % 5000 for gram in grams})
    found = Spelling(100, 5000)("warm")
    assert found.dtype == np.int32
    assert found.tolist() == numbers + [0] * (SPELLING_SIZE - len(numbers))


def test_words_share_what_they_have_in_common_and_long_ones_are_cut():
    spelling = Spelling(10, 100_000)
    found = {word: set(spelling(word).tolist()) - {0} for word in ("warm", "warmly", "dull", "x", "é", "")}
    assert len(found["warm"] & found["warmly"]) >= 3
    assert not found["warm"] & found["dull"]
    assert len(found["x"]) == len(found["é"]) == 1
    assert found[""] == set()
    assert len(set(spelling("incomprehensibilities").tolist())) == SPELLING_SIZE
    assert all(10 <= number < 100_010 for number in found["warmly"])


def test_few_buckets_are_shared():
    found = Spelling(7, 3)("incomprehensible")
    assert found.tolist() == [7, 8, 9] + [0] * (SPELLING_SIZE - 3)


@pytest.mark.parametrize("first", [False, True])
def test_every_token_has_the_spelling_of_its_word_known_or_not(first):
    encoder = _encoder(first=first)
    (row,), long = encoder(["warm unseen otherwise film"])
    assert not long
    assert row.shape == (5 + first, 1 + SPELLING_SIZE)
    assert (row[-1] == [EOS_ID] + [0] * SPELLING_SIZE).all()
    if first:
        assert (row[0] == [BOS_ID] + [0] * SPELLING_SIZE).all()
    words = row[first:-1]
    assert (words[[1, 2], 0] == UNK_ID).all()
    assert (words[[0, 3], 0] > EOS_ID).all()
    (plain,), _ = _encoder(first=first, spelling=0)(["warm unseen otherwise film"])
    np.testing.assert_array_equal(row[:, 0], plain)
    spelling = Spelling(11, 50)
    np.testing.assert_array_equal(words[:, 1:], [spelling(word) for word in ("warm", "unseen", "otherwise", "film")])


@pytest.mark.parametrize("first", [False, True])
def test_a_text_that_is_cut_keeps_the_spellings_of_its_beginning(first):
    encoder = _encoder(first=first, max_length=4)
    (row, short), long = encoder(["dull warm film and long", ""])
    assert long == [0]
    words = ("dull", "warm", "film")[: 3 - first]
    np.testing.assert_array_equal(row[first:-1, 1:], [Spelling(11, 50)(word) for word in words])
    assert row[-1].tolist() == [EOS_ID] + [0] * SPELLING_SIZE
    assert short.tolist() == [[BOS_ID] + [0] * SPELLING_SIZE] * first + [[EOS_ID] + [0] * SPELLING_SIZE]


def test_batches_hold_spellings_and_padding_has_none():
    encoder = _encoder()
    rows, _ = encoder(["warm film", "dull"])
    batch = encoder.records(rows, [1, 0]).assemble(np.arange(2), np.arange(2), Shape(2, 5, 0), 2)
    assert batch.inputs.tokens.shape == (2, 5, 1 + SPELLING_SIZE)
    assert batch.inputs.weights.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(batch.inputs.tokens[0, :3], rows[0])
    assert (batch.inputs.tokens[batch.inputs.segment_ids == 0] == 0).all()
