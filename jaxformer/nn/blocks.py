"""The encoder's and the decoder's layer (Vaswani et al. 2017, section 3.1).

A block takes the model's settings and nothing else; pass another class of the same interface to a model to change it.
"""

from __future__ import annotations

import jax
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.nn.attention import CrossAttention, SelfAttention
from jaxformer.nn.decoding_memory import DecodingMemory
from jaxformer.nn.feed_forward import FeedForward
from jaxformer.nn.residual import Residual
from jaxformer.ops import Mask, fold_seed


def _self_attention(config: ModelConfig, rngs: nnx.Rngs) -> SelfAttention:
    return SelfAttention(
        config.d_model,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        dropout=config.attention_dropout,
        rotary=config.position == "rotary",
        rngs=rngs,
    )


def _residual(config: ModelConfig) -> Residual:
    return Residual(config.d_model, norm=config.norm, norm_position=config.norm_position, dropout=config.dropout)


def _feed_forward(config: ModelConfig, rngs: nnx.Rngs) -> FeedForward:
    return FeedForward(
        config.d_model, config.d_ff, activation=config.activation, dropout=config.activation_dropout, rngs=rngs
    )


class EncoderBlock(nnx.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.attention = _self_attention(config, rngs)
        self.attention_residual = _residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = _residual(config)

    def __call__(
        self, x: jax.Array, positions: jax.Array, mask: Mask | None = None, *, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, D] with positions int32 [B, S] to [B, S, D]."""
        x = self.attention_residual(
            x, lambda h: self.attention(h, positions, mask, seed=fold_seed(seed, 0)), seed=fold_seed(seed, 1)
        )
        return self.feed_forward_residual(
            x, lambda h: self.feed_forward(h, seed=fold_seed(seed, 2)), seed=fold_seed(seed, 3)
        )


class DecoderBlock(nnx.Module):
    """Causal self-attention, attention to the source, then feed-forward."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.attention = _self_attention(config, rngs)
        self.attention_residual = _residual(config)
        self.cross_attention = CrossAttention(
            config.d_model,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            dropout=config.attention_dropout,
            rngs=rngs,
        )
        self.cross_attention_residual = _residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = _residual(config)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        encoded: jax.Array,
        mask: Mask,
        cross_mask: Mask | None = None,
        *,
        seed: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, D] with positions int32 [B, T], over the encoded source [B, S, D], to [B, T, D]."""
        x = self.attention_residual(
            x, lambda h: self.attention(h, positions, mask, seed=fold_seed(seed, 0)), seed=fold_seed(seed, 1)
        )
        memory = self.cross_attention.memory(encoded)
        x = self.cross_attention_residual(
            x, lambda h: self.cross_attention(h, memory, cross_mask, seed=fold_seed(seed, 2)), seed=fold_seed(seed, 3)
        )
        return self.feed_forward_residual(
            x, lambda h: self.feed_forward(h, seed=fold_seed(seed, 4)), seed=fold_seed(seed, 5)
        )

    def step(
        self,
        x: jax.Array,
        index: jax.Array,
        cache: DecodingMemory,
        visible: jax.Array,
        memory: DecodingMemory,
        source_visible: jax.Array,
    ) -> tuple[jax.Array, DecodingMemory]:
        """One target position of every beam: [B, W, D] and the cache to the same.

        `visible` and `source_visible` say which places of `cache` and `memory` are seen; see `SelfAttention.step`.
        """
        new = cache

        def attend(h: jax.Array) -> jax.Array:
            nonlocal new
            h, new = self.attention.step(h, index, cache, visible)
            return h

        x = self.attention_residual(x, attend)
        x = self.cross_attention_residual(x, lambda h: self.cross_attention.step(h, memory, source_visible))
        return self.feed_forward_residual(x, self.feed_forward), new
