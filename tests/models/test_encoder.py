"""The encoder: it is that of the encoder-decoder, nothing leaks, packing changes nothing, mistakes are refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.models import Encoder, EncoderDecoder, EncoderWithHeads, Ensemble
from jaxformer.nn import EncoderBlock, PooledHead, TokenHead, ValueEmbedding
from jaxformer.ops import Mask, sinusoidal_positions
from jaxformer.types import Series
from tests.models.test_encoder_decoder import SMALL, VARIETIES, V, _rows

TOKENS = [[5, 6, 7, 3], [10, 3], [15, 16, 17, 18, 3]]
C = 3


def _encoder(changes=None, **inputs):
    config = dataclasses.replace(SMALL, **(changes or {}))
    return Encoder(config, **(inputs or {"vocabulary_size": V}), rngs=nnx.Rngs(0))


def _series(rows):
    """The rows of a `Sequences` with vectors of numbers that depend on the token, nan where there is padding."""
    table = np.random.default_rng(0).normal(size=(V, C)).astype(np.float32)
    values = np.where(rows.segment_ids[..., None] > 0, table[rows.tokens], np.nan)
    return Series(values.astype(np.float32), rows.positions, rows.segment_ids)


@pytest.mark.parametrize("name", VARIETIES)
def test_it_is_the_encoder_of_the_encoder_decoder(name):
    changes = VARIETIES[name] | {"dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2}
    config = dataclasses.replace(SMALL, **changes)
    both = EncoderDecoder(config, source_vocabulary_size=V, target_vocabulary_size=V, rngs=nnx.Rngs(1))
    alone = _encoder(changes)
    alone.embedding = both.target_embedding if config.share_embeddings else both.source_embedding
    alone.stack, alone.norm = both.encoder, getattr(both, "encoder_norm", None)
    rows = _rows([TOKENS[0], TOKENS[1]], [TOKENS[2]], width=7)
    encode = jax.jit(lambda model, seed: model.encode(rows, seed=seed))
    for seed in (None, jnp.uint32(3)):
        np.testing.assert_array_equal(jax.jit(lambda m, s: m(rows, seed=s))(alone, seed), encode(both, seed))


def test_embeddings_without_their_scale_and_layers_without_the_norm_after_them():
    rows = _rows([TOKENS[0]], width=4)
    scaled, plain = _encoder({"position": "rotary"}), _encoder({"position": "rotary", "scale_embedding": False})
    np.testing.assert_array_equal(plain.embed(rows), plain.embedding.table[...][rows.tokens])
    np.testing.assert_allclose(plain.embed(rows) * SMALL.d_model**0.5, scaled.embed(rows), rtol=1e-6)
    bare = _encoder({"position": "rotary", "final_norm": False})
    assert bare.norm is None
    np.testing.assert_allclose(scaled.norm(bare(rows)), scaled(rows), atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"position": "rotary"}], ids=["sinusoidal", "rotary"])
@pytest.mark.parametrize("kind", ["tokens", "numbers"])
def test_packed_equals_unpacked_and_padding_changes_nothing(kind, changes):
    alone = _rows(*[[sequence] for sequence in TOKENS], width=6)
    packed = _rows(TOKENS, width=13)
    model = _encoder(changes, **({"vocabulary_size": V} if kind == "tokens" else {"num_channels": C}))
    if kind == "numbers":
        alone, packed = _series(alone), _series(packed)
    encode = nnx.jit(lambda model, inputs: model(inputs))
    separate, together, start = np.asarray(encode(model, alone)), np.asarray(encode(model, packed)), 0
    assert np.isfinite(together).all()
    for row, sequence in enumerate(TOKENS):
        end = start + len(sequence)
        np.testing.assert_allclose(separate[row, : len(sequence)], together[0, start:end], atol=2e-5)
        start = end
    hidden = dataclasses.replace(
        packed,
        **(
            {"tokens": np.where(packed.segment_ids == 0, 21, packed.tokens)}
            if kind == "tokens"
            else {"values": np.nan_to_num(packed.values, nan=np.inf)}
        ),
    )
    np.testing.assert_array_equal(np.asarray(encode(model, hidden))[0, :start], together[0, :start])


def test_numbers_are_projected_and_given_a_position():
    layer = ValueEmbedding(C, 8, rngs=nnx.Rngs(0))
    values = np.random.default_rng(0).normal(size=(2, 4, C)).astype(np.float32)
    positions = np.tile(np.arange(4), (2, 1))
    expected = values @ layer.project.kernel[...] + sinusoidal_positions(jnp.asarray(positions), 8)
    np.testing.assert_allclose(layer(values, positions), expected, atol=1e-5)
    wide = ValueEmbedding(64, 128, position="rotary", rngs=nnx.Rngs(0))
    spread = wide(np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32), jnp.zeros(50, int)).std()
    np.testing.assert_allclose(spread, 1.0, rtol=0.05)  # of standardised inputs


def test_a_block_is_overridden_by_passing_another():
    class Silent(EncoderBlock):
        def __call__(self, x, positions, mask=None, *, seed=None):
            return x * 0

    model = Encoder(SMALL, vocabulary_size=V, encoder_block=Silent, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(model(_rows([TOKENS[0]], width=4)), 0.0)


def test_heads_share_one_encoding_and_draw_their_own_dropout():
    encoder = _encoder({"dropout": 0.5})
    heads = {name: TokenHead(SMALL.d_model, 2, dropout=0.5, rngs=nnx.Rngs(5)) for name in ("b", "a")}
    model = EncoderWithHeads(encoder, heads | {"whole": PooledHead(SMALL.d_model, 4, rngs=nnx.Rngs(6))})
    rows = _rows([TOKENS[0], TOKENS[1]], [TOKENS[2]], width=7)
    outputs = model(rows, num_sequences=2)
    assert {name: output.shape for name, output in outputs.items()} == {
        "a": (2, 7, 2), "b": (2, 7, 2), "whole": (2, 2, 4)
    }  # fmt: skip
    np.testing.assert_array_equal(outputs["a"], outputs["b"])  # of equal parameters
    np.testing.assert_allclose(outputs["a"], heads["a"](encoder(rows), rows), atol=1e-6)
    dropped = model(rows, num_sequences=2, seed=jnp.uint32(1))
    assert not np.allclose(dropped["a"], dropped["b"])


def test_mistakes_are_refused():
    for inputs in ({}, {"vocabulary_size": V, "num_channels": C}):
        with pytest.raises(ValueError, match="give vocabulary_size or num_channels, got"):
            Encoder(SMALL, **inputs, rngs=nnx.Rngs(0))
    rows = _rows([TOKENS[0]], width=4)
    with pytest.raises(ValueError, match=r"reads tokens \(Sequences\), got Series"):
        _encoder()(_series(rows))
    with pytest.raises(ValueError, match=r"reads numbers \(Series\), got Sequences"):
        _encoder(num_channels=C)(rows)
    with pytest.raises(ValueError, match="an ensemble without members predicts nothing: give at least one network"):
        Ensemble([])


def test_the_settings_of_decoders_are_not_used():
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(Encoder(config, vocabulary_size=V, rngs=nnx.Rngs(0)))))
        for config in (SMALL, dataclasses.replace(SMALL, num_decoder_layers=5, tie_output=False))
    ]
    assert sizes[0] == sizes[1]


LOCAL = {"position": "rotary", "num_encoder_layers": 3, "local_layers": 2, "local_window": 2, "neighbourhood": 1}


def test_packed_equals_unpacked_with_neighbours_and_local_layers():
    model = _encoder(LOCAL)
    encode = nnx.jit(lambda model, inputs: model(inputs))
    separate = np.asarray(encode(model, _rows(*[[sequence] for sequence in TOKENS], width=6)))
    together, start = np.asarray(encode(model, _rows(TOKENS, width=13)))[0], 0
    for row, sequence in enumerate(TOKENS):
        stop = start + len(sequence)
        np.testing.assert_allclose(together[start:stop], separate[row, : len(sequence)], rtol=1e-5, atol=1e-5)
        start = stop


def _reach(changes):
    """How far from the middle of a row of 25 a change of its middle token is seen."""
    model, inputs = _encoder({"position": "rotary", **changes}), _rows([[5] * 25], width=25)
    changed = dataclasses.replace(inputs, tokens=np.where(np.arange(25) == 12, 9, inputs.tokens))
    differ = np.abs(np.asarray(model(inputs)) - np.asarray(model(changed))).max(axis=-1)[0] > 0
    return int(np.abs(np.flatnonzero(differ) - 12).max())


def test_local_layers_see_as_far_as_their_window_and_the_others_see_all():
    changes = {"num_encoder_layers": 3, "local_layers": 2, "local_window": 2}
    assert _reach(changes) == 12
    model = _encoder({"position": "rotary", **changes})
    assert (model.local_stack.depth, model.stack.depth) == (2, 1)
    rows = _rows([[5] * 25], width=25)
    other = dataclasses.replace(rows, tokens=np.where(np.arange(25) == 12, 9, rows.tokens))
    mask = Mask.segments(jnp.asarray(rows.segment_ids)) & Mask(window=2)
    one, two = (model.local_stack(model.embedding(x.tokens, x.positions), x.positions, mask) for x in (rows, other))
    np.testing.assert_array_equal(np.flatnonzero(np.abs(one - two).max(axis=-1)[0]), np.arange(12 - 4, 12 + 5))


def test_neighbours_of_numbers_are_refused():
    with pytest.raises(ValueError, match=r"model\.neighbourhood=1 is for tokens, not for numbers"):
        _encoder({"neighbourhood": 1}, num_channels=C)
