"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): over one sequence, and from one to another.

Query, key and value projections that share their input have one kernel and are one matrix product, but for large
batches on GPUs: there each is large enough by itself, and taking the results apart costs half as much again. Kernels
start Glorot-uniform (Glorot and Bengio 2010, equation 16) as if each projection stood alone, biases at zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.nn.decoding_memory import DecodingMemory
from jaxformer.nn.linear import Linear, cut
from jaxformer.ops import Mask, Rotation, attention, decode_attention, rotate, rotation
from jaxformer.ops.dropout import head_seeds
from jaxformer.parallel.sharding import exchanges_heads, gathered_length, heads_for_length, length_for_heads, place

LARGE_PRODUCT = 4096
"""Tokens from which on projections that share their input are products of their own, but on a CPU."""


class KeyValues(NamedTuple):
    """Keys and values of whole sequences, each [B, S, K, H]."""

    keys: jax.Array
    values: jax.Array


def _fused_glorot(groups: int, *widths: int) -> nnx.Initializer:
    """Glorot-uniform for projections of these widths: the fan of each, not of their union.

    Each is cut into `groups`, and the parts of a group lie side by side, so that devices can share the groups.
    """
    single = nnx.initializers.glorot_uniform()

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        keys = jax.random.split(key, len(widths))
        parts = [single(k, (shape[0], width), dtype) for k, width in zip(keys, widths, strict=True)]
        return jnp.concatenate([part.reshape(shape[0], groups, -1) for part in parts], axis=2).reshape(shape)

    return initialise


class _MultiHead(nnx.Module):
    """What both kinds share: sizes, the output projection, and the attention between projected heads."""

    def __init__(
        self, d_model: int, num_heads: int, *, num_kv_heads: int = 0, dropout: float = 0.0, rngs: nnx.Rngs
    ) -> None:
        if d_model % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide d_model={d_model}")
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        self.head_size = d_model // num_heads
        self.dropout = dropout
        glorot = nnx.initializers.glorot_uniform()
        self.output = Linear(d_model, d_model, dims=("heads", "model"), kernel_init=glorot, rngs=rngs)

    def _attend(
        self, queries: jax.Array, memory: KeyValues, mask: Mask | None, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, N, H] queries over [B, S, K, H] memory: the projected result, [B, T, D].

        Where sequences are split over devices, the mask is of whole sequences, and each device attends with a part of
        its heads over them: heads are exchanged for positions. Where these do not divide, it attends with all of its
        heads from its own positions, and gathers keys and values.
        """
        if exchanges_heads(self.num_kv_heads):
            queries, keys, values = map(heads_for_length, (queries, *memory))
            heads = length_for_heads(self._weighted(queries, KeyValues(keys, values), mask, seed, "heads", "length"))
        else:
            (number, _), length = place("length"), queries.shape[1]
            mask = (Mask() if mask is None else mask).of_queries(number * length, length)
            heads = self._weighted(queries, KeyValues(*map(gathered_length, memory)), mask, seed, "heads")
        return self.output(heads.reshape(*heads.shape[:2], -1))

    def _weighted(
        self, queries: jax.Array, memory: KeyValues, mask: Mask | None, seed: jax.Array | None, *dims: str
    ) -> jax.Array:
        """[B, T, N', H] of this device's heads, which are split as `dims` are."""
        if self.dropout and seed is not None:
            seed = self._head_seeds(seed, queries.shape[0], queries.shape[2], *dims)
        return attention(queries, *memory, mask=mask, dropout=self.dropout, dropout_seed=seed)

    def _head_seeds(self, seed: jax.Array, batch: int, heads: int, *dims: str) -> jax.Array:
        """[B, N'], those of this device's heads, so that what they drop does not depend on who has them."""
        index, _ = place(*dims)
        return jax.lax.dynamic_slice_in_dim(head_seeds(seed, batch, self.num_heads), index * heads, heads, axis=1)

    def _share_keys(self, beam_size: int) -> bool:
        """Whether several queries read each key when W = `beam_size` beams decode (as in `tasks.batch_search`)."""
        return beam_size * self.num_heads > self.num_kv_heads

    def _recall(self, queries: jax.Array, memory: DecodingMemory, visible: jax.Array) -> jax.Array:
        """[B, W, N, H] queries of one position over what decoding keeps: the projected result, [B, W, D]."""
        heads = decode_attention(queries, memory.keys, memory.values, visible, transposed=memory.transposed)
        return self.output(heads.reshape(*heads.shape[:2], -1))

    def _heads(self, projection: Linear, x: jax.Array, *heads: int) -> list[jax.Array]:
        """[B, T, D] by a fused projection to [B, T, K * n, H] for each n of `heads`, which a group has."""
        if jax.default_backend() != "cpu" and x.size >= LARGE_PRODUCT * x.shape[-1]:
            parts = projection.in_parts(x, heads, self.head_size)
        else:
            parts = cut(projection(x), heads, self.head_size)
        return [part.reshape(*x.shape[:-1], -1, self.head_size) for part in parts]


class SelfAttention(_MultiHead):
    """Every position attends to positions of its own sequence.

    Args:
      d_model: D.
      num_heads: N, a divisor of D; the head size H is D / N.
      num_kv_heads: K, a divisor of N; 0 for N.
      dropout: rate on the attention weights.
      rotary: rotate queries and keys by their positions.
      rngs: of the initialisation.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int = 0,
        dropout: float = 0.0,
        rotary: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(d_model, num_heads, num_kv_heads=num_kv_heads, dropout=dropout, rngs=rngs)
        self.rotary = rotary
        widths = [heads * self.head_size for heads in (num_heads, self.num_kv_heads, self.num_kv_heads)]
        glorot = _fused_glorot(self.num_kv_heads, *widths)
        self.query_key_value = Linear(d_model, sum(widths), dims=("model", "heads"), kernel_init=glorot, rngs=rngs)

    def _project(self, x: jax.Array, turn: Rotation | None) -> tuple[jax.Array, KeyValues]:
        """[B, T, D] to queries [B, T, N, H] and keys and values [B, T, K, H]."""
        queries, keys, values = self._heads(self.query_key_value, x, self.num_heads // self.num_kv_heads, 1, 1)
        if turn is not None:
            queries, keys = rotate(queries, turn), rotate(keys, turn)
        return queries, KeyValues(keys, values)

    def _turn(self, positions: jax.Array, length: int | None = None) -> Rotation | None:
        return rotation(positions, self.head_size, length=length) if self.rotary else None

    def __call__(
        self, x: jax.Array, positions: jax.Array, mask: Mask | None = None, *, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, D] with positions int32 [B, T], below the length of the whole rows, to [B, T, D]."""
        queries, memory = self._project(x, self._turn(positions, positions.shape[-1] * place("length")[1]))
        return self._attend(queries, memory, mask, seed)

    def empty_cache(self, batch: int, beam_size: int, length: int, dtype: jax.typing.DTypeLike) -> DecodingMemory:
        """A cache of W = `beam_size` beams and L = `length` positions for `step`: L * W places, beams side by side."""
        shape = (batch, length * beam_size, self.num_kv_heads, self.head_size)
        return DecodingMemory.empty(shape, dtype, transposed=self._share_keys(beam_size))

    def step(
        self, x: jax.Array, index: jax.Array, cache: DecodingMemory, visible: jax.Array
    ) -> tuple[jax.Array, DecodingMemory]:
        """One position of each beam, which is written to the cache first.

        Args:
          x: [B, W, D].
          index: int32 scalar, the position.
          cache: keys and values of the positions before, of every beam.
          visible: bool [B, W, L * W], which places of the cache belong to a beam's own past, this one included.

        Returns:
          [B, W, D], and the cache with this position written to it.
        """
        # Of every position, which does not change from step to step: XLA would take a sine for every element otherwise.
        turns = self._turn(jnp.arange(cache.places // x.shape[1]))
        queries, new = self._project(x, jax.tree.map(lambda of_all: of_all[index], turns))
        cache = cache.written(*new, index * x.shape[1])
        return self._recall(queries, cache, visible), cache


class CrossAttention(_MultiHead):
    """Every target position attends to the encoded source.

    Args:
      d_model: D.
      num_heads: N, a divisor of D.
      num_kv_heads: K, a divisor of N; 0 for N.
      dropout: rate on the attention weights.
      rngs: of the initialisation.
    """

    def __init__(
        self, d_model: int, num_heads: int, *, num_kv_heads: int = 0, dropout: float = 0.0, rngs: nnx.Rngs
    ) -> None:
        super().__init__(d_model, num_heads, num_kv_heads=num_kv_heads, dropout=dropout, rngs=rngs)
        glorot = nnx.initializers.glorot_uniform()
        self.query = Linear(d_model, d_model, dims=("model", "heads"), kernel_init=glorot, rngs=rngs)
        width = self.num_kv_heads * self.head_size
        fused = _fused_glorot(self.num_kv_heads, width, width)
        self.key_value = Linear(d_model, 2 * width, dims=("model", "heads"), kernel_init=fused, rngs=rngs)

    def memory(self, encoded: jax.Array) -> KeyValues:
        """Keys and values [B, S, K, H] of the encoded source [B, S, D]."""
        return KeyValues(*self._heads(self.key_value, encoded, 1, 1))

    def decoding_memory(self, encoded: jax.Array, beam_size: int) -> DecodingMemory:
        """The same as `step` reads them for W = `beam_size` beams; computed once for all target positions."""
        return DecodingMemory.of(*self.memory(encoded), transposed=self._share_keys(beam_size))

    def step(self, x: jax.Array, memory: DecodingMemory, visible: jax.Array) -> jax.Array:
        """One position [B, W, D] of every beam over the source; `visible`: bool [B, 1, S]."""
        return self._recall(self._queries(x), memory, visible)

    def __call__(
        self, x: jax.Array, memory: KeyValues, mask: Mask | None = None, *, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, D] over `memory` to [B, T, D]."""
        return self._attend(self._queries(x), memory, mask, seed)

    def _queries(self, x: jax.Array) -> jax.Array:
        return self.query(x).reshape(*x.shape[:-1], -1, self.head_size)
