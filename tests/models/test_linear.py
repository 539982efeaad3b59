"""The classifier without layers: sums of what words and pairs say, by hand."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.models import EncoderWithHeads, WordsAndPairs, linear_parts
from jaxformer.models.linear import PAIRS
from jaxformer.types import BOS_ID, EOS_ID, SPELLING_SIZE, UNK_ID, Sequences, Series

V = 30


def _rows(tokens, segments=None):
    tokens = np.array(tokens, np.int32)
    segments = (tokens > 0).astype(np.int32) if segments is None else np.array(segments, np.int32)
    return Sequences(tokens, np.zeros_like(tokens), segments, (segments > 0).astype(np.float32))


def _filled(encoder):
    """Weights that are all different."""
    weights = encoder.weights
    weights[...] = jnp.asarray(np.random.default_rng(0).normal(size=weights.shape), jnp.float32)
    return encoder


def _said(encoder, *tokens):
    """What is said of a text by itself, all of its positions together."""
    return np.asarray(encoder.embed(_rows([tokens]))[0].sum(axis=0))


def test_every_word_and_every_pair_in_its_order_says_something_of_its_own():
    encoder = _filled(WordsAndPairs(V, 2))
    words = {token: _said(encoder, token) for token in (7, 8, 9)}
    pair = _said(encoder, 7, 8) - words[7] - words[8]
    other = _said(encoder, 8, 7) - words[7] - words[8]
    assert np.abs(pair).max() > 1e-3
    assert np.abs(pair - other).max() > 1e-3
    third = _said(encoder, 8, 9) - words[8] - words[9]
    np.testing.assert_allclose(
        _said(encoder, 7, 8, 9), words[7] + words[8] + words[9] + pair + third, rtol=1e-5, atol=1e-5
    )


def test_only_words_speak_and_only_those_of_one_sequence_are_neighbours():
    encoder = _filled(WordsAndPairs(V, 2))
    alone = _said(encoder, 7) + _said(encoder, 8)
    for between in (UNK_ID, EOS_ID, BOS_ID):
        np.testing.assert_allclose(_said(encoder, BOS_ID, 7, between, 8, EOS_ID), alone, rtol=1e-6)
    packed = encoder.embed(_rows([[7, 8, 0, 0]], [[1, 2, 0, 0]]))[0]
    np.testing.assert_allclose(packed.sum(axis=0), alone, rtol=1e-6)
    assert not packed[2:].any()


def test_how_tokens_are_spelt_says_nothing_here():
    encoder, rows = _filled(WordsAndPairs(V, 2)), _rows([[7, 8, 9, 0]])
    spelt = np.concatenate([rows.tokens[..., None], np.full((1, 4, SPELLING_SIZE), V, np.int32)], axis=-1)
    np.testing.assert_array_equal(encoder.embed(dataclasses.replace(rows, tokens=spelt)), encoder.embed(rows))


def test_heads_add_up_their_own_outputs_of_their_own_sequences():
    encoder, heads = linear_parts(V, {"a": 2, "b": 3})
    model = EncoderWithHeads(_filled(encoder), heads)
    heads["b"].bias[...] = jnp.array([1.0, 2.0, 3.0])
    assert encoder.weights.shape == (V + PAIRS, 5)
    packed = _rows([[7, 8, 9, 10, 0]], [[1, 1, 2, 2, 0]])
    found = model(packed, num_sequences=3)
    each = [_said(encoder, 7, 8), _said(encoder, 9, 10), np.zeros(5)]
    np.testing.assert_allclose(found["a"][0], [one[:2] for one in each], rtol=1e-5)
    np.testing.assert_allclose(found["b"][0], [one[2:] + np.arange(1, 4) for one in each], rtol=1e-5)
    embedded = encoder.embed(packed)
    given = heads["a"](encoder(packed, embedded=2 * embedded), packed, num_sequences=3)
    np.testing.assert_allclose(given, 2 * found["a"], rtol=1e-6)


def test_pairs_are_spread_over_all_buckets():
    """Of n pairs in m buckets, m (1 - exp(-n/m)) buckets are used where a hash is as good as chance."""
    encoder = WordsAndPairs(400, 1, pairs=4000)
    encoder.weights[...] = jnp.arange(4400.0)[:, None]
    first, second = np.meshgrid(np.arange(4, 104), np.arange(204, 304))
    rows = _rows(np.stack([first.ravel(), second.ravel()], axis=1))
    words = encoder.embed(_rows(rows.tokens[:, :1]))[:, 0]
    buckets = np.round(np.asarray(encoder.embed(rows)[:, 0] - words)[:, 0] / 10.0).astype(int)
    used = len(np.unique(buckets))
    expected = 4000 * (1 - np.exp(-10_000 / 4000))
    assert abs(used - expected) < 5 * np.sqrt(4000 * np.exp(-2.5) * (1 - np.exp(-2.5) * 3.5))
    assert buckets.min() >= 400
    assert buckets.max() < 4400


def test_a_table_that_was_saved_is_read_with_the_same_buckets():
    encoder = WordsAndPairs(V, 1)
    words, pairs = encoder._ids(jnp.array([[7, 8, 7]]), jnp.ones((1, 3), jnp.int32))
    assert words.tolist() == [[7, 8, 7]]
    assert pairs.tolist() == [[23865, 39131, -1]]


def test_numbers_are_refused():
    ones = np.ones((1, 2), np.int32)
    with pytest.raises(ValueError, match=r"words and pairs are of tokens \(Sequences\), got Series"):
        WordsAndPairs(V, 2).embed(Series(np.zeros((1, 2, 3), np.float32), ones, ones))


def test_it_begins_with_nothing_to_say():
    assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.state(linear_parts(V, {"a": 2})[0])))
