"""Hidden tokens: as many as asked for, never a mark or padding, and how they are spelt stays."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxformer.tasks.hiding import hidden_tokens
from jaxformer.types import BOS_ID, EOS_ID, UNK_ID
from tests.tasks.learning import rows


def test_hidden_tokens_spare_the_marks_of_beginning_and_end():
    inputs = rows(np.random.default_rng(0), 200, packed=False)
    tokens = np.where(np.arange(16) == 0, BOS_ID, np.where(np.arange(16) == 4, EOS_ID, inputs.tokens))
    hidden = hidden_tokens(dataclasses.replace(inputs, tokens=tokens), 0.9, jnp.uint32(3))
    np.testing.assert_array_equal(hidden.tokens[:, [0, 4]], tokens[:, [0, 4]])
    assert (np.asarray(hidden.tokens[:, 1:4]) == UNK_ID).mean() > 0.8


def test_hidden_tokens_keep_their_spelling():
    inputs = rows(np.random.default_rng(0), 200, packed=False)
    spelt = np.stack([inputs.tokens, 2 * inputs.tokens, 3 * inputs.tokens], axis=-1)
    hidden = hidden_tokens(dataclasses.replace(inputs, tokens=spelt), 0.4, jnp.uint32(3)).tokens
    np.testing.assert_array_equal(hidden[..., 0], hidden_tokens(inputs, 0.4, jnp.uint32(3)).tokens)
    assert 0.3 < (np.asarray(hidden[..., 0]) == UNK_ID)[inputs.segment_ids > 0].mean() < 0.5
    np.testing.assert_array_equal(hidden[..., 1:], spelt[..., 1:])


def test_hidden_tokens_are_as_many_as_asked_for_and_never_padding():
    inputs = rows(np.random.default_rng(0), 2000, packed=False)
    hidden = hidden_tokens(inputs, 0.25, jnp.uint32(3))
    tokens = np.asarray(hidden.tokens)
    real = inputs.segment_ids > 0
    assert (tokens[~real] == 0).all()
    assert abs((tokens == UNK_ID)[real].mean() - 0.25) < 0.02
    kept = real & (tokens != UNK_ID)
    np.testing.assert_array_equal(tokens[kept], inputs.tokens[kept])
    again = np.asarray(hidden_tokens(inputs, 0.25, jnp.uint32(4)).tokens)
    assert (again != tokens).any()
