"""Heads by their formulas, with packed sequences, padding that says nothing, and gradients that are right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.nn import ChannelHead, PooledHead, TokenHead
from jaxformer.types import Sequences, Series

D, E, G = 6, 2, 3
RNG = np.random.default_rng(0)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 3, 3, 3, 3], [1, 1, 0, 0, 0, 0]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3], [0, 1, 0, 0, 0, 0]], np.int32)
ENCODED = jnp.asarray(RNG.normal(size=(3, 6, D)), jnp.float32)
ROWS = Series(np.zeros((3, 6, 1), np.float32), POSITIONS, SEGMENTS)


def _pooled(pooling):
    head = PooledHead(D, E, pooling=pooling, rngs=nnx.Rngs(0))
    head.project.bias[...] = jnp.array([0.5, -1.0])
    if pooling == "attention":
        head.score[...] = jnp.asarray(RNG.normal(size=D), jnp.float32)
    return head


def _by_hand(head, encoded):
    """[B, G, E], sequence by sequence in float64."""
    outputs = np.zeros((3, G, E))
    for row in range(3):
        for g in range(G):
            own = np.asarray(encoded, np.float64)[row][SEGMENTS[row] == g + 1]
            if head.pooling == "cls":
                own = own[:1]
            shares = np.ones(len(own))
            if head.pooling == "attention":
                shares = np.exp(own @ np.asarray(head.score[...], np.float64))
            vector = (shares[:, None] * own).sum(axis=0) / max(shares.sum(), 1e-9) if len(own) else np.zeros(D)
            outputs[row, g] = vector @ np.asarray(head.project.kernel[...]) + np.asarray(head.project.bias[...])
    return outputs


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
def test_pooled_by_its_formula_for_every_packed_sequence(pooling):
    head = _pooled(pooling)
    pool = nnx.jit(lambda head, encoded: head(encoded, ROWS, num_sequences=G))
    found = np.asarray(pool(head, ENCODED))
    np.testing.assert_allclose(found, _by_hand(head, ENCODED), atol=1e-5)
    np.testing.assert_allclose(found[2, 1], [0.5, -1.0])  # a sequence of none
    padded = jnp.where(jnp.asarray(SEGMENTS)[..., None] == 0, 1e6, ENCODED)
    np.testing.assert_array_equal(found, pool(head, padded))
    assert not np.allclose(found, pool(head, ENCODED + 1))


def test_convolution_is_the_largest_of_features_of_neighbours_in_a_sequence():
    head = _pooled("convolution")
    for number, convolve in enumerate(head.convolutions):
        convolve.bias[...] = jnp.asarray(np.random.default_rng(number).normal(size=convolve.bias.shape), jnp.float32)
    expected = np.zeros((3, G, E))
    for row in range(3):
        for g in range(G):
            own = np.asarray(ENCODED, np.float64)[row][SEGMENTS[row] == g + 1]
            found = []
            for taps, convolve in zip((3, 4, 5), head.convolutions, strict=True):
                padded = np.pad(own, [(taps // 2, taps - taps // 2 - 1), (0, 0)])
                windows = [padded[place : place + taps].reshape(-1) for place in range(len(own))]
                features = [window @ np.asarray(convolve.kernel[...]) + convolve.bias[...] for window in windows]
                found.append(np.max([*np.maximum(features, 0), np.zeros(128)], axis=0))
            expected[row, g] = np.concatenate(found) @ np.asarray(head.project.kernel[...]) + head.project.bias[...]
    graph, state = nnx.split(head)

    def total(state, encoded):
        outputs = nnx.merge(graph, state)(encoded, ROWS, num_sequences=G)
        return outputs.sum(), outputs

    pool = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, found), gradients = pool(state, ENCODED)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found[2, 1], [0.5, -1.0])  # a sequence of none
    padding = jnp.asarray(SEGMENTS)[..., None] == 0
    (_, again), others = pool(state, jnp.where(padding, jnp.nan, ENCODED))
    np.testing.assert_array_equal(found, again)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.where(padding, gradients[1], 0).any()


def test_attention_that_has_learned_nothing_is_the_mean():
    head = PooledHead(D, E, pooling="attention", rngs=nnx.Rngs(0))
    mean = PooledHead(D, E, pooling="mean", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(
        head(ENCODED, ROWS, num_sequences=G), mean(ENCODED, ROWS, num_sequences=G), atol=1e-6
    )


def test_gradient_of_attention_is_that_of_a_softmax():
    head = _pooled("attention")
    graph, state = nnx.split(head)

    def ours(state, encoded):
        return jnp.sin(nnx.merge(graph, state)(encoded, ROWS, num_sequences=G)).sum()

    def plain(state, encoded):
        head = nnx.merge(graph, state)
        total = jnp.zeros(())
        for row in range(3):
            for g in range(G):
                own = encoded[row][SEGMENTS[row] == g + 1]
                shares = jax.nn.softmax(own @ head.score[...]) if len(own) else jnp.zeros(0)
                total += jnp.sin(shares @ own @ head.project.kernel[...] + head.project.bias[...]).sum()
        return total

    found, expected = (jax.jit(jax.grad(f, (0, 1)))(state, ENCODED) for f in (ours, plain))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_short_numbers_are_pooled_in_float32():
    head = PooledHead(1, 1, pooling="mean", rngs=nnx.Rngs(0))
    graph, state = nnx.split(head)
    head = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state))
    head.project.kernel[...] = jnp.ones((1, 1), jnp.bfloat16)
    many = jnp.ones((1, 4096, 1), jnp.bfloat16)  # a bfloat16 sum of ones would end at 256
    rows = Series(many, np.arange(4096)[None], np.ones((1, 4096), np.int32))
    found = head(many, rows)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype(jnp.float32), 1.0)


def test_token_and_channel_heads_by_their_formulas():
    token = TokenHead(D, E, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(token(ENCODED, ROWS), ENCODED @ token.project.kernel[...], atol=1e-5)
    head = ChannelHead(D, 6, 4, num_outputs=E, rngs=nnx.Rngs(0))
    head.bias[...] = jnp.arange(8.0)
    kernel = np.asarray(head.kernel[...]).reshape(6, D, 4, E)
    seen = np.where(SEGMENTS[..., None] > 0, ENCODED, 0)
    expected = np.einsum("bsd,sdte->bte", seen, kernel) + np.arange(8.0).reshape(4, E)
    np.testing.assert_allclose(head(ENCODED, ROWS), expected, atol=1e-5)
    hidden = jnp.where(jnp.asarray(SEGMENTS)[..., None] == 0, jnp.nan, ENCODED)
    np.testing.assert_allclose(head(hidden, ROWS), expected, atol=1e-5)


def test_a_channel_head_adds_a_linear_map_of_the_patches():
    random = np.random.default_rng(1)
    values = np.where(SEGMENTS[..., None] > 0, random.normal(size=(*SEGMENTS.shape, 3)), np.nan).astype(np.float32)
    rows = Series(values, ROWS.positions, ROWS.segment_ids)
    plain = ChannelHead(D, 6, 4, num_outputs=E, rngs=nnx.Rngs(0))
    head = ChannelHead(D, 6, 4, num_outputs=E, patch_length=3, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(head(ENCODED, rows), plain(ENCODED, rows))  # it begins as if it were not there
    kernel = random.normal(size=(6, 3, 4, E)).astype(np.float32)
    head.skip[...] = jnp.asarray(kernel.reshape(18, 4 * E))
    added = np.einsum("bsc,scte->bte", np.nan_to_num(values), kernel)
    np.testing.assert_allclose(head(ENCODED, rows), plain(ENCODED, rows) + added, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention", "convolution"])
def test_a_pooled_head_adds_a_linear_map_of_inputs_that_are_pooled_alike(pooling):
    random = np.random.default_rng(1)
    values = np.where(SEGMENTS[..., None] > 0, random.normal(size=(*SEGMENTS.shape, D)), np.nan).astype(np.float32)
    rows = Series(values, ROWS.positions, ROWS.segment_ids)
    plain, head = (PooledHead(D, E, pooling=pooling, num_channels=n, rngs=nnx.Rngs(0)) for n in (0, D))
    np.testing.assert_array_equal(head(ENCODED, rows, num_sequences=G), plain(ENCODED, rows, num_sequences=G))
    head.skip[...] = head.project.kernel[:D]
    pooled = head(ENCODED, rows, num_sequences=G) - plain(ENCODED, rows, num_sequences=G)
    expected = np.zeros_like(pooled)
    for row, segments in enumerate(SEGMENTS):
        for g in range(G):
            own = segments == g + 1
            share = own / max(own.sum(), 1) if pooling != "cls" else own & (POSITIONS[row] == 0)
            expected[row, g] = share @ np.nan_to_num(values[row]) @ np.asarray(head.skip[...])
    np.testing.assert_allclose(pooled, expected, atol=1e-5)  # also of attention, which begins so


def test_dropout_follows_the_seed():
    for head in (TokenHead(D, E, dropout=0.5, rngs=nnx.Rngs(0)), PooledHead(D, E, dropout=0.5, rngs=nnx.Rngs(0)),
                 ChannelHead(D, 6, E, dropout=0.5, rngs=nnx.Rngs(0))):  # fmt: skip
        one, again, other = (np.asarray(head(ENCODED, ROWS, seed=jnp.uint32(seed))) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert not np.allclose(one, other)
        assert not np.allclose(one, head(ENCODED, ROWS))


def test_convolution_refuses_a_part_of_a_sequence(monkeypatch):
    monkeypatch.setattr("jaxformer.nn.heads.place", lambda dim: (0, 2))
    with pytest.raises(ValueError, match=r"needs whole sequences on every device: set --config\.mesh\.context=1"):
        _pooled("convolution")(ENCODED, ROWS, num_sequences=G)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="pooling 'max' is not one of cls, mean, attention"):
        PooledHead(D, E, pooling="max", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="rows of 6 patches, but the head forecasts from 5"):
        ChannelHead(D, 5, 4, rngs=nnx.Rngs(0))(ENCODED, ROWS)
    with pytest.raises(ValueError, match="a head that maps its inputs reads 3 numbers at a position, got 1"):
        ChannelHead(D, 6, 4, patch_length=3, rngs=nnx.Rngs(0))(ENCODED, ROWS)
    tokens = Sequences(np.zeros((3, 6), np.int32), POSITIONS, SEGMENTS, np.ones((3, 6), np.float32))
    with pytest.raises(ValueError, match="reads 2 numbers at a position, got tokens"):
        PooledHead(D, E, num_channels=2, rngs=nnx.Rngs(0))(ENCODED, tokens, num_sequences=G)
