"""Feed-forward, norms, embeddings, grouped heads, stacks and single steps, by hand and against each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.nn import DecoderBlock, Embedding, EncoderBlock, FeedForward, Norm, Residual, SelfAttention, Stack
from jaxformer.ops import Mask, sinusoidal_positions

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
POSITIONS = jnp.broadcast_to(jnp.arange(5), (2, 5))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
def test_feed_forward_by_its_formula(activation):
    layer = FeedForward(8, 12, activation=activation, rngs=nnx.Rngs(0))
    layer.expand.bias[...] = jnp.linspace(-1, 1, layer.expand.bias.shape[0])
    hidden = np.asarray(X @ layer.expand.kernel[...] + layer.expand.bias[...], np.float64)
    if activation == "relu":
        hidden = np.maximum(hidden, 0)
    elif activation == "gelu":
        from math import erf

        hidden = hidden * 0.5 * (1 + np.vectorize(erf)(hidden / np.sqrt(2)))
    else:
        gate, value = hidden[..., ::2], hidden[..., 1::2]
        hidden = gate * _sigmoid(gate) * value
    expected = hidden @ np.asarray(layer.contract.kernel[...], np.float64)
    np.testing.assert_allclose(layer(X), expected, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_large_projections_of_their_own_are_the_fused_one(kv_heads, monkeypatch):
    """What GPUs are given for large batches: values and gradients of the one product that is cut."""
    layer = SelfAttention(8, 4, num_kv_heads=kv_heads, rngs=nnx.Rngs(0))
    layer.query_key_value.bias[...] = jnp.linspace(-1, 1, layer.query_key_value.bias.shape[0])
    graph, params = nnx.split(layer)

    def value(params, x):
        return (nnx.merge(graph, params)(x, POSITIONS, Mask(causal=True)) ** 2).sum()

    with jax.enable_x64(True):  # two orders of the same sums: what differs in float32 hangs on the processor
        given = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, X))
        fused = jax.value_and_grad(value)(*given)
        monkeypatch.setattr("jaxformer.nn.attention.LARGE_PRODUCT", 0)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        # Three, two of attention, and the output.
        assert str(jax.make_jaxpr(value)(*given)).count("dot_general") == 6
        apart = jax.value_and_grad(value)(*given)
        assert fused[0].dtype == jnp.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), fused, apart)


def test_norms_by_their_formulas():
    x = np.asarray(X, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(
        Norm("layernorm", 8)(X), centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6), atol=1e-5
    )
    np.testing.assert_allclose(
        Norm("rmsnorm", 8)(X), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6), atol=1e-5
    )


def test_unknown_kinds_are_refused():
    for make in (
        lambda: Norm("batchnorm", 8),
        lambda: FeedForward(8, 8, activation="tanh", rngs=nnx.Rngs(0)),
        lambda: Embedding(8, 8, position="none", rngs=nnx.Rngs(0)),
        lambda: Residual(8, norm_position="both"),
        lambda: SelfAttention(8, 3, rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(ValueError, match=r"is not one of|does not divide"):
            make()


def test_residual_places_the_norm_as_named():
    pre, post = (Residual(8, norm_position=position) for position in ("pre", "post"))
    norm = Norm("layernorm", 8)
    np.testing.assert_allclose(pre(X, jnp.tanh), X + jnp.tanh(norm(X)), atol=1e-6)
    np.testing.assert_allclose(post(X, jnp.tanh), norm(X + jnp.tanh(X)), atol=1e-6)


def test_embedding_scales_tokens_and_adds_the_position():
    tokens = jnp.array([[3, 1, 3]])
    positions = jnp.array([[0, 1, 2]])
    plain = Embedding(6, 8, position="sinusoidal", rngs=nnx.Rngs(0))
    plain.check_length(10**6)
    rows = plain.table[...][tokens] * np.sqrt(8)
    np.testing.assert_allclose(plain(tokens, positions), rows + sinusoidal_positions(positions, 8), atol=1e-6)
    learned = Embedding(6, 8, position="learned", max_length=4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(
        learned(tokens, positions),
        learned.table[...][tokens] * np.sqrt(8) + learned.position_table[...][positions],
        atol=1e-6,
    )
    with pytest.raises(ValueError, match=r"end at model.max_length=4, got rows of 5, padding included: shorten them"):
        learned(tokens, positions + 2)
    rotary = Embedding(6, 8, position="rotary", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(rotary(tokens, positions)[0, 0], rotary(tokens, positions)[0, 2])


def test_gradients_of_frequent_tokens_and_positions_are_summed_in_float32():
    layer = Embedding(6, 4, position="learned", max_length=3, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)
    same = jnp.zeros((4096,), jnp.int32)  # sqrt(D) = 2: the gradient is 8192, where bfloat16 sums would end at 512
    total = lambda state: nnx.merge(graph, state)(same, same).astype(jnp.float32).sum()  # noqa: E731
    found = nnx.merge(graph, jax.jit(jax.grad(total))(half))
    assert found.table[...].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.table[...][0], 8192.0)
    np.testing.assert_array_equal(found.position_table[...][0], 4096.0)


def test_initial_values_have_the_stated_spread():
    layer = SelfAttention(64, 4, num_kv_heads=2, rngs=nnx.Rngs(0))
    kernel = np.asarray(layer.query_key_value.kernel[...])
    groups = kernel.reshape(64, 2, 4, 16)  # of each key/value head: its two query heads, its keys, its values
    for part, width in ((groups[:, :, :2], 64), (groups[:, :, 2], 32), (groups[:, :, 3], 32)):
        limit = np.sqrt(6 / (64 + width))
        assert np.abs(part).max() <= limit
        np.testing.assert_allclose(part.std(), limit / np.sqrt(3), rtol=0.05)
    assert not np.asarray(layer.query_key_value.bias[...]).any()
    table = np.asarray(Embedding(1000, 64, rngs=nnx.Rngs(0)).table[...])
    np.testing.assert_allclose(table.std(), 1 / 8, rtol=0.02)


def test_a_spelling_is_added_with_the_variance_of_one_vector() -> None:
    layer = Embedding(9, 4, position="learned", max_length=3, scale=False, rngs=nnx.Rngs(0))
    table, places = np.asarray(layer.table[...]), np.asarray(layer.position_table[...])
    tokens = np.array([[[4, 5, 6, 7], [2, 0, 0, 0], [1, 8, 0, 0]]])
    found = layer(tokens, np.arange(3)[None])[0]
    expected = np.stack([table[4] + table[5:8].sum(axis=0) / np.sqrt(3), table[2], table[1] + table[8]])
    np.testing.assert_allclose(found, expected + places, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(layer(tokens[..., 0], np.arange(3)[None])[0], table[tokens[0, :, 0]] + places)


@pytest.mark.parametrize("position", ["sinusoidal", "rotary"])
@pytest.mark.parametrize("kv_heads", [0, 2])
def test_one_step_at_a_time_equals_all_at_once(position, kv_heads):
    config = ModelConfig(d_model=8, d_ff=16, num_heads=4, num_kv_heads=kv_heads, position=position)
    block = DecoderBlock(config, rngs=nnx.Rngs(0))
    encoded = X[:, ::-1]
    expected = block(X, POSITIONS, encoded, Mask(causal=True))
    cache = block.attention.empty_cache(2, 1, 6, X.dtype)
    memory = block.cross_attention.decoding_memory(encoded, beam_size=1)
    source_visible = jnp.ones((2, 1, encoded.shape[1]), bool)

    @jax.jit
    def step(x, i, cache):
        past = jnp.broadcast_to(jnp.arange(6) <= i, (2, 1, 6))
        return block.step(x, i, cache, past, memory, source_visible)

    for i in range(5):
        out, cache = step(X[:, i : i + 1], jnp.int32(i), cache)
        np.testing.assert_allclose(out[:, 0], expected[:, i], atol=1e-5)


def test_scanned_stack_equals_the_unrolled_one_with_dropout():
    config = ModelConfig(d_model=8, d_ff=16, num_heads=2, dropout=0.2, attention_dropout=0.2, activation_dropout=0.2)
    plain, scanned = (
        Stack(lambda rngs: EncoderBlock(config, rngs=rngs), 3, scan=scan, rngs=nnx.Rngs(0)) for scan in (False, True)
    )
    for seed in (None, jnp.uint32(5)):
        np.testing.assert_allclose(plain(X, POSITIONS, seed=seed), scanned(X, POSITIONS, seed=seed), atol=1e-5)
    kernels = [np.asarray(layer.feed_forward.expand.kernel[...]) for layer in plain]
    assert not np.allclose(kernels[0], kernels[1])  # layers start apart
    for ours, layer in zip(kernels, scanned, strict=True):
        np.testing.assert_array_equal(ours, layer.feed_forward.expand.kernel[...])


def test_every_dropout_site_draws_its_own_mask():
    config = ModelConfig(d_model=8, d_ff=16, num_heads=2, dropout=0.5)
    stack = Stack(lambda rngs: EncoderBlock(config, rngs=rngs), 2, scan=False, rngs=nnx.Rngs(0))
    one, two = (stack(X, POSITIONS, seed=jnp.uint32(seed)) for seed in (1, 2))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, stack(X, POSITIONS, seed=jnp.uint32(1)))
