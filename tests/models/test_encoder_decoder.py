"""The whole network: nothing leaks, packing and decoding step by step change nothing, options do what they say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.decoding import beam_search, greedy_search, sample
from jaxformer.models import EncoderDecoder
from jaxformer.nn import EncoderBlock
from jaxformer.types import BOS_ID, EOS_ID, Batch, Sequences

V = 23
SMALL = ModelConfig(d_model=16, d_ff=24, num_heads=4, num_encoder_layers=2, num_decoder_layers=1, max_length=32)
VARIETIES = {
    "as in the paper": {"norm_position": "post"},
    "pre-norm": {},
    "rotary, rms, swiglu, grouped": {
        "position": "rotary", "norm": "rmsnorm", "activation": "swiglu", "num_kv_heads": 2
    },
    "learned, scanned, untied, separate": {
        "position": "learned", "scan_layers": True, "tie_output": False, "share_embeddings": False
    },
}


def _model(**changes):
    config = dataclasses.replace(SMALL, **changes)
    return EncoderDecoder(config, source_vocabulary_size=V, target_vocabulary_size=V, rngs=nnx.Rngs(0))


def _rows(*rows, width):
    """Sequences of rows; each row is a list of token lists, packed one after another and padded to `width`."""
    tokens, positions, segments = (np.zeros((len(rows), width), np.int32) for _ in range(3))
    for r, row in enumerate(rows):
        start = 0
        for number, sequence in enumerate(row, start=1):
            end = start + len(sequence)
            tokens[r, start:end] = sequence
            positions[r, start:end] = np.arange(len(sequence))
            segments[r, start:end] = number
            start = end
    return Sequences(tokens, positions, segments, (segments > 0).astype(np.float32))


PAIRS = [([5, 6, 7, 3], [8, 9, 3]), ([10, 3], [11, 12, 13, 14, 3]), ([15, 16, 17, 3], [18, 3])]


def _plain():
    return Batch(
        _rows(*[[source] for source, _ in PAIRS], width=6), _rows(*[[target] for _, target in PAIRS], width=7)
    )


_logits = jax.jit(lambda model, batch, seed=None: model(batch, seed=seed))
_decode_step = jax.jit(lambda model, *state: model.decode_step(*state))


@pytest.fixture(params=VARIETIES, scope="module")
def model(request):
    return _model(**VARIETIES[request.param])


def test_packed_equals_unpacked(model):
    packed = Batch(_rows([p[0] for p in PAIRS], width=12), _rows([p[1] for p in PAIRS], width=11))
    alone, together = _logits(model, _plain()), _logits(model, packed)
    start = 0
    for row, (_, target) in enumerate(PAIRS):
        np.testing.assert_allclose(
            alone[row, : len(target)], together[0, start : start + len(target)], atol=2e-5
        )
        start += len(target)


def test_padding_and_future_change_nothing(model):
    batch = _plain()
    before = np.asarray(_logits(model, batch))
    poisoned = jax.tree.map(np.array, batch)
    for side in (poisoned.source, poisoned.target):
        side.tokens[side.segment_ids == 0] = 21
    real = np.asarray(batch.target.segment_ids) > 0
    np.testing.assert_array_equal(before[real], np.asarray(_logits(model, poisoned))[real])
    future = jax.tree.map(np.array, batch)
    future.target.tokens[1, 2:5] = 4  # labels 2.. of row 1 reach the decoder as inputs 3..
    after = np.asarray(_logits(model, future))
    np.testing.assert_array_equal(before[1, :3], after[1, :3])
    assert np.abs(before[1, 3:5] - after[1, 3:5]).min(axis=0).max() > 1e-3
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])


def test_decoding_step_by_step_equals_the_whole(model):
    batch = _plain()
    expected = np.asarray(_logits(model, batch))
    encoded = model.encode(batch.source)
    cache, context = model.start_decoding(encoded, batch.source, beam_size=2, max_length=7)
    assert cache.ancestors.shape == (3, 2, 7)
    step = jax.jit(model.decode_step)
    tokens = np.full(3, BOS_ID)
    for i in range(7):
        transposed = model.output_kernel.T if i % 2 else None
        logits, cache = step(jnp.stack([tokens, tokens], 1), jnp.int32(i), cache, context, transposed)
        real = np.asarray(batch.target.segment_ids)[:, i] > 0
        for beam in range(2):
            np.testing.assert_allclose(logits[real, beam], expected[real, i], atol=2e-5)
        tokens = np.asarray(batch.target.tokens)[:, i]


def test_beams_of_a_sentence_do_not_see_each_other():
    model, batch = _model(), _plain()
    cache, context = model.start_decoding(model.encode(batch.source), batch.source, beam_size=2, max_length=3)
    same = other = cache
    for i in range(3):
        one, same = _decode_step(model, jnp.full((3, 2), 5 + i), jnp.int32(i), same, context)
        two, other = _decode_step(model, jnp.tile(jnp.array([5 + i, 17]), (3, 1)), jnp.int32(i), other, context)
    np.testing.assert_allclose(one[:, 0], two[:, 0], atol=1e-6)
    assert np.abs(one[:, 1] - two[:, 1]).max() > 1e-3


def test_a_reordered_cache_continues_the_parents():
    """Beams that changed places three times equal beams that had held those tokens from the start."""
    model, batch = _model(), _plain()
    start, context = model.start_decoding(model.encode(batch.source), batch.source, beam_size=3, max_length=5)
    random = np.random.default_rng(0)
    history, cache = np.zeros((3, 3, 0), np.int64), start
    for i in range(5):
        tokens = random.integers(4, 20, (3, 3))
        history = np.concatenate([history, tokens[:, :, None]], axis=2)
        logits, cache = _decode_step(model, jnp.asarray(tokens), jnp.int32(i), cache, context)
        plain = start
        for j in range(i + 1):
            expected, plain = _decode_step(model, jnp.asarray(history[:, :, j]), jnp.int32(j), plain, context)
        np.testing.assert_allclose(logits, expected, atol=2e-5)
        parents = random.integers(0, 3, (3, 3))
        cache = cache.reordered(jnp.asarray(parents))
        history = np.take_along_axis(history, parents[:, :, None], axis=1)


def test_a_search_refuses_a_cache_that_is_too_short():
    model, batch = _model(), _plain()
    cache, context = model.start_decoding(model.encode(batch.source), batch.source, beam_size=2, max_length=3)
    assert (cache.places, cache.grown(7).places) == (3, 7)
    step = lambda tokens, index, cache: model.decode_step(tokens, index, cache, context)  # noqa: E731
    common = {"max_length": 7, "bos_id": BOS_ID, "eos_id": EOS_ID}
    for search in (
        lambda: greedy_search(step, cache, batch_size=3, **common),
        lambda: beam_search(step, cache, batch_size=3, beam_size=2, **common),
        lambda: sample(step, cache, keys=jax.random.split(jax.random.key(0), 3), num_samples=2, **common),
    ):
        with pytest.raises(ValueError, match="places for 3 positions, fewer than max_length=7 of the search: start"):
            search()


def test_decoding_refuses_more_than_the_learned_positions():
    model = _model(position="learned", max_length=6)
    for source_length, output_length in ((6, 7), (7, 6)):
        source, encoded = _rows([[5, 3]], width=source_length), jnp.zeros((1, source_length, SMALL.d_model))
        with pytest.raises(ValueError, match=r"learned positions end at model\.max_length=6, got rows of 7"):
            model.start_decoding(encoded, source, beam_size=1, max_length=output_length)


def test_dropout_is_a_function_of_the_seed():
    model, batch = _model(dropout=0.3, attention_dropout=0.1, activation_dropout=0.1), _plain()
    one = _logits(model, batch, jnp.uint32(1))
    np.testing.assert_array_equal(one, _logits(model, batch, jnp.uint32(1)))
    assert not np.allclose(one, _logits(model, batch, jnp.uint32(2)))
    np.testing.assert_array_equal(_logits(model, batch), _logits(model, batch))


def test_first_logits_have_unit_spread():
    model = _model(d_model=64, tie_output=False)
    tokens = np.random.default_rng(0).integers(4, V, (8, 16)).astype(np.int32)
    side = Sequences(tokens, np.tile(np.arange(16), (8, 1)), np.ones_like(tokens), np.ones(tokens.shape, np.float32))
    logits = np.asarray(_logits(model, Batch(side, side)))
    np.testing.assert_allclose(logits.std(), 1.0, rtol=0.2)  # normalised outputs times rows from N(0, 1/D)


def test_tied_and_shared_tables_are_one_parameter():
    def size(model):
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))

    table = V * SMALL.d_model
    base = size(_model())
    assert size(_model(tie_output=False)) == base + table
    assert size(_model(share_embeddings=False)) == base + table


def test_shared_embeddings_of_two_vocabularies_are_refused():
    with pytest.raises(ValueError, match="shared embeddings need one vocabulary, got 5 source and 6 target"):
        EncoderDecoder(SMALL, source_vocabulary_size=5, target_vocabulary_size=6, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("tied", [True, False])
def test_a_target_of_the_first_pieces_has_their_logits_alone(tied):
    whole = _model(tie_output=tied)
    part = EncoderDecoder(whole.config, source_vocabulary_size=V, target_vocabulary_size=19, rngs=nnx.Rngs(0))
    table = whole.target_embedding.table[...]
    part.encoder, part.decoder = whole.encoder, whole.decoder
    part.encoder_norm, part.decoder_norm = whole.encoder_norm, whole.decoder_norm
    np.testing.assert_array_equal(part.target_embedding.table[...], table[:19])
    np.testing.assert_array_equal(part.target_embedding.source_table[...], table[19:])
    if not tied:
        part.output_table[...] = whole.output_table[:19]
    batch = _plain()  # its target has ids below 19; some of its source are then made larger
    batch = dataclasses.replace(batch, source=dataclasses.replace(batch.source, tokens=batch.source.tokens + 4))
    assert batch.source.tokens.max() > 19
    np.testing.assert_allclose(_logits(part, batch), _logits(whole, batch)[..., :19], rtol=1e-5, atol=1e-5)


def test_a_block_is_overridden_by_passing_another():
    class Silent(EncoderBlock):
        def __call__(self, x, positions, mask=None, *, seed=None):
            return x * 0

    model = EncoderDecoder(
        SMALL, source_vocabulary_size=V, target_vocabulary_size=V, encoder_block=Silent, rngs=nnx.Rngs(0)
    )
    np.testing.assert_array_equal(model.encode(_plain().source), 0.0)


def test_bfloat16_parameters_give_bfloat16_activations_and_float32_logits():
    model, batch = _model(), _plain()
    graph, state = nnx.split(model)
    half = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state))
    assert half.hidden(batch).dtype == jnp.bfloat16
    assert half(batch).dtype == jnp.float32
    assert np.abs(_logits(half, batch) - _logits(model, batch)).max() < 0.15
