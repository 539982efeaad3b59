"""The blocks against torch's layers with the same weights, to 1e-5."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.nn import DecoderBlock, EncoderBlock, SelfAttention
from jaxformer.ops import Mask

torch = pytest.importorskip("torch", reason="torch is the benchmark extra")

B, S, T, D, F, N = 2, 7, 5, 16, 32, 4
LENGTHS = [7, 4]
RNG = np.random.default_rng(0)
SOURCE = RNG.normal(size=(B, S, D)).astype(np.float32)
TARGET = RNG.normal(size=(B, T, D)).astype(np.float32)
POSITIONS_S = jnp.broadcast_to(jnp.arange(S), (B, S))
POSITIONS_T = jnp.broadcast_to(jnp.arange(T), (B, T))
PADDING = torch.tensor(np.arange(S)[None] >= np.array(LENGTHS)[:, None])
KEYS = Mask(key_lengths=jnp.array(LENGTHS))


def _randomised(module):
    """Every parameter of a torch module drawn anew, so that no bias is zero and no norm the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


def _set(linear, weight, bias):
    linear.kernel[...] = jnp.asarray(weight.detach().numpy().T)
    linear.bias[...] = jnp.asarray(bias.detach().numpy())


def _by_head(array, parts):
    """Rows part after part (all queries, all keys, ...) to rows head after head, as our fused projections have them."""
    return array.reshape(parts, N, D // N, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _copy_self_attention(ours, theirs):
    _set(ours.query_key_value, _by_head(theirs.in_proj_weight, 3), _by_head(theirs.in_proj_bias, 3))
    _set(ours.output, theirs.out_proj.weight, theirs.out_proj.bias)


def _copy_cross_attention(ours, theirs):
    _set(ours.query, theirs.in_proj_weight[:D], theirs.in_proj_bias[:D])
    _set(ours.key_value, _by_head(theirs.in_proj_weight[D:], 2), _by_head(theirs.in_proj_bias[D:], 2))
    _set(ours.output, theirs.out_proj.weight, theirs.out_proj.bias)


def _copy_norm(residual, theirs):
    residual.norm.scale[...] = jnp.asarray(theirs.weight.detach().numpy())
    residual.norm.bias[...] = jnp.asarray(theirs.bias.detach().numpy())


def _config(activation, norm_position):
    return ModelConfig(d_model=D, d_ff=F, num_heads=N, activation=activation, norm_position=norm_position)


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)


def test_multi_head_attention_and_its_gradient():
    theirs = _randomised(torch.nn.MultiheadAttention(D, N, batch_first=True))
    ours = SelfAttention(D, N, rngs=nnx.Rngs(0))
    _copy_self_attention(ours, theirs)
    x = torch.tensor(SOURCE, requires_grad=True)
    expected = theirs(x, x, x, key_padding_mask=PADDING, need_weights=False)[0]
    expected.sin().sum().backward()
    _close(ours(SOURCE, POSITIONS_S, KEYS), expected)
    _close(jax.grad(lambda x: jnp.sin(ours(x, POSITIONS_S, KEYS)).sum())(jnp.asarray(SOURCE)), x.grad)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(activation, norm_position):
    theirs = _randomised(torch.nn.TransformerEncoderLayer(
        D, N, F, 0.0, activation, layer_norm_eps=1e-6, batch_first=True, norm_first=norm_position == "pre"
    ))
    ours = EncoderBlock(_config(activation, norm_position), rngs=nnx.Rngs(0))
    _copy_self_attention(ours.attention, theirs.self_attn)
    _copy_norm(ours.attention_residual, theirs.norm1)
    _set(ours.feed_forward.expand, theirs.linear1.weight, theirs.linear1.bias)
    _set(ours.feed_forward.contract, theirs.linear2.weight, theirs.linear2.bias)
    _copy_norm(ours.feed_forward_residual, theirs.norm2)
    theirs.train()  # torch's fused inference path zeroes padded rows; the dropout rate is 0
    _close(ours(SOURCE, POSITIONS_S, KEYS), theirs(torch.tensor(SOURCE), src_key_padding_mask=PADDING))


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_decoder_layer(norm_position):
    theirs = _randomised(torch.nn.TransformerDecoderLayer(
        D, N, F, 0.0, "relu", layer_norm_eps=1e-6, batch_first=True, norm_first=norm_position == "pre"
    ))
    ours = DecoderBlock(_config("relu", norm_position), rngs=nnx.Rngs(0))
    _copy_self_attention(ours.attention, theirs.self_attn)
    _copy_norm(ours.attention_residual, theirs.norm1)
    _copy_cross_attention(ours.cross_attention, theirs.multihead_attn)
    _copy_norm(ours.cross_attention_residual, theirs.norm2)
    _set(ours.feed_forward.expand, theirs.linear1.weight, theirs.linear1.bias)
    _set(ours.feed_forward.contract, theirs.linear2.weight, theirs.linear2.bias)
    _copy_norm(ours.feed_forward_residual, theirs.norm3)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(T)
    expected = theirs(
        torch.tensor(TARGET), torch.tensor(SOURCE), tgt_mask=causal, memory_key_padding_mask=PADDING
    )
    _close(ours(TARGET, POSITIONS_T, SOURCE, Mask(causal=True), KEYS), expected)
