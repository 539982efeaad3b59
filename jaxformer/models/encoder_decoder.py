"""The encoder-decoder Transformer (Vaswani et al. 2017), for training on whole rows and for decoding step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.models.encoder import encode_rows
from jaxformer.nn import DecoderBlock, DecodingMemory, Embedding, EncoderBlock, Norm, Stack
from jaxformer.nn.dropout import dropout
from jaxformer.ops import Mask, fold_seed, shift_right
from jaxformer.parallel.sharding import before, gathered, whole_length
from jaxformer.types import BOS_ID, Batch, Sequences


class DecodingContext(NamedTuple):
    """What decoding needs of the source; shared by the beams of a sentence.

    Attributes:
      memory: for every decoder layer, the source's keys and values.
      source_visible: bool [B, 1, S], the real source tokens.
    """

    memory: tuple[DecodingMemory, ...]
    source_visible: jax.Array


class DecodingCache(NamedTuple):
    """What decoding has computed so far.

    Keys and values stay where they were written, however the beams change places: a beam remembers the places of its
    past instead, and sees no others. Moving the cache after every step would cost more than a step.

    Attributes:
      layers: for every decoder layer, the keys and values of all positions of all beams.
      ancestors: int32 [B, W, L], for every beam and position, the beam that wrote it.
    """

    layers: tuple[DecodingMemory, ...]
    ancestors: jax.Array

    @property
    def places(self) -> int:
        """L, the positions that it has room for."""
        return self.ancestors.shape[2]

    def reordered(self, parents: jax.Array) -> DecodingCache:
        """The cache after beam w became a continuation of beam `parents[:, w]` (int32 [B, W])."""
        return self._replace(ancestors=jnp.take_along_axis(self.ancestors, parents[:, :, None], axis=1))

    def grown(self, length: int) -> DecodingCache:
        """The cache with room for `length` positions, at least as many as it has now."""
        beams = self.ancestors.shape[1]
        ancestors = jnp.pad(self.ancestors, [(0, 0), (0, 0), (0, length - self.places)])
        return DecodingCache(tuple(layer.grown(length * beams) for layer in self.layers), ancestors)


class EncoderDecoder(nnx.Module):
    """An encoder over the source, and a causal decoder over the target that attends to it.

    Args:
      config: sizes and kinds.
      source_vocabulary_size: V of the source.
      target_vocabulary_size: V of the target, and of the output; when `config.share_embeddings`, at most the source's,
        since the target then is made of the first pieces of the source's vocabulary.
      encoder_block, decoder_block: classes with the interface of `EncoderBlock` and `DecoderBlock`, to change a block
        without changing the library.
      remat: what the backward pass computes again; see `nn.Stack`.
      rngs: of the initialisation, stream `params`.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        encoder_block: Callable[..., nnx.Module] = EncoderBlock,
        decoder_block: Callable[..., nnx.Module] = DecoderBlock,
        remat: str = "none",
        rngs: nnx.Rngs,
    ) -> None:
        if config.share_embeddings and source_vocabulary_size < target_vocabulary_size:
            raise ValueError(
                f"shared embeddings need one vocabulary, got {source_vocabulary_size} source and "
                f"{target_vocabulary_size} target pieces: set --config.model.share_embeddings=false"
            )
        self.config = config

        def embedding(size: int, source_pieces: int = 0) -> Embedding:
            return Embedding(
                size,
                config.d_model,
                position=config.position,
                max_length=config.max_length,
                source_pieces=source_pieces,
                rngs=rngs,
            )

        if config.share_embeddings:
            self.target_embedding = embedding(target_vocabulary_size, source_vocabulary_size - target_vocabulary_size)
        else:
            self.target_embedding = embedding(target_vocabulary_size)
            self.source_embedding = embedding(source_vocabulary_size)
        self.encoder = Stack(
            lambda rngs: encoder_block(config, rngs=rngs),
            config.num_encoder_layers,
            scan=config.scan_layers,
            remat=remat,
            rngs=rngs,
        )
        self.decoder = Stack(
            lambda rngs: decoder_block(config, rngs=rngs),
            config.num_decoder_layers,
            scan=config.scan_layers,
            remat=remat,
            rngs=rngs,
        )
        if config.norm_position == "pre":  # a post-norm stack ends normalised
            self.encoder_norm = Norm(config.norm, config.d_model)
            self.decoder_norm = Norm(config.norm, config.d_model)
        if not config.tie_output:
            normal = nnx.initializers.normal(config.d_model**-0.5)
            table = normal(rngs.params(), (target_vocabulary_size, config.d_model), jnp.float32)
            self.output_table = nnx.Param(table, dims=("vocabulary", "model"))

    def encode(self, source: Sequences, *, seed: jax.Array | None = None) -> jax.Array:
        """The source rows [B, S] encoded, [B, S, D]. `seed`: uint32 for dropout, one or one for each row; or None."""
        embedding = self.target_embedding if self.config.share_embeddings else self.source_embedding
        x = embedding(source.tokens, source.positions, source=True)
        norm = self.encoder_norm if self.config.norm_position == "pre" else None
        return encode_rows(x, source, self.encoder, norm, self.config.dropout, seed)

    def decode(
        self, inputs: Sequences, encoded: jax.Array, source: Sequences, *, seed: jax.Array | None = None
    ) -> jax.Array:
        """Decoder outputs [B, T, D] before the output projection.

        Args:
          inputs: decoder inputs [B, T] (labels shifted right).
          encoded: what `encode` made of `source`, [B, S, D].
          source: the source rows, for their segment ids.
          seed: uint32 for dropout, one or one for each row; None for none.
        """
        x = self.target_embedding(inputs.tokens, inputs.positions)
        x = dropout(x, self.config.dropout, fold_seed(seed, 2))
        segments = whole_length(inputs.segment_ids)
        mask = Mask(causal=True) & Mask.segments(segments)
        cross_mask = Mask.segments(segments, whole_length(source.segment_ids))
        x = self.decoder(x, inputs.positions, encoded, mask, cross_mask, seed=fold_seed(seed, 3))
        return self.decoder_norm(x) if self.config.norm_position == "pre" else x

    @property
    def grouped(self) -> bool:
        """Whether several query heads share keys and values."""
        return self.config.num_kv_heads not in (0, self.config.num_heads)

    def check_length(self, length: int) -> None:
        """Refuses rows longer than learned positions are: `ValueError`."""
        self.target_embedding.check_length(length)

    @property
    def output_kernel(self) -> jax.Array:
        """[V, D], the output projection: logits are `hidden @ output_kernel.T`."""
        if self.config.tie_output:
            return self.target_embedding.whole_table
        return gathered(self.output_table[...], ("vocabulary", "model"))

    @property
    def transposed_output(self) -> jax.Array:
        """[D, V], the output kernel as every step of a search multiplies by it."""
        return self.output_kernel.T

    def logits(self, hidden: jax.Array, transposed: jax.Array | None = None) -> jax.Array:
        """[*, D] to float32 logits [*, V]. `transposed`: the output kernel as [D, V], where somebody has it so."""
        if transposed is not None:
            return jnp.einsum("...d,dv->...v", hidden, transposed, preferred_element_type=jnp.float32)
        return jnp.einsum("...d,vd->...v", hidden, self.output_kernel, preferred_element_type=jnp.float32)

    def hidden(self, batch: Batch, *, seed: jax.Array | None = None) -> jax.Array:
        """Decoder outputs [B, T, D] under teacher forcing: position t has seen the labels before t."""
        encoded = self.encode(batch.source, seed=seed)
        target = batch.target
        inputs = Sequences(
            tokens=shift_right(target.tokens, target.positions, BOS_ID, before=before(target.tokens)),
            positions=target.positions,
            segment_ids=target.segment_ids,
            weights=target.weights,
        )
        return self.decode(inputs, encoded, batch.source, seed=seed)

    def __call__(self, batch: Batch, *, seed: jax.Array | None = None) -> jax.Array:
        """float32 logits [B, T, V] for the labels `batch.target.tokens`."""
        return self.logits(self.hidden(batch, seed=seed))

    def start_decoding(
        self, encoded: jax.Array, source: Sequences, *, beam_size: int, max_length: int
    ) -> tuple[DecodingCache, DecodingContext]:
        """An empty cache and the context for `decode_step`.

        Args:
          encoded: [B, S, D].
          source: the source rows, one sequence in each (not packed).
          beam_size: W.
          max_length: positions that the cache holds: no output may be longer, which the searches see to.

        Raises:
          ValueError: for rows or outputs longer than learned positions are.
        """
        for length in (source.tokens.shape[1], max_length):
            self.check_length(length)
        layers = list(self.decoder)
        batch = encoded.shape[0]
        cache = tuple(layer.attention.empty_cache(batch, beam_size, max_length, encoded.dtype) for layer in layers)
        memory = tuple(layer.cross_attention.decoding_memory(encoded, beam_size) for layer in layers)
        ancestors = jnp.zeros((batch, beam_size, max_length), jnp.int32)
        return DecodingCache(cache, ancestors), DecodingContext(memory, (source.segment_ids != 0)[:, None])

    def decode_step(
        self,
        tokens: jax.Array,
        index: jax.Array,
        cache: DecodingCache,
        context: DecodingContext,
        transposed: jax.Array | None = None,
    ) -> tuple[jax.Array, DecodingCache]:
        """One target position of every beam.

        Args:
          tokens: int32 [B, W], the tokens at position `index` (the first is the beginning-of-sequence id).
          index: int32 scalar, the position; below the places of the cache.
          cache: from `start_decoding` or the step before, `reordered` if the beams have changed places.
          context: from `start_decoding`.
          transposed: the output kernel as [D, V]. A CPU multiplies few rows by it faster than by [V, D].

        Returns:
          float32 logits [B, W, V] for position `index + 1`'s input, and the cache.
        """
        x = self.target_embedding(tokens, jnp.broadcast_to(index, tokens.shape))
        batch, beams, length = cache.ancestors.shape
        positions = jnp.arange(length)
        ancestors = jnp.where(positions == index, jnp.arange(beams)[:, None], cache.ancestors)
        own = (ancestors[:, :, :, None] == jnp.arange(beams)) & (positions <= index)[:, None]  # [B, W, L, W]
        visible = own.reshape(batch, beams, length * beams)
        new = []
        for layer, layer_cache, memory in zip(self.decoder, cache.layers, context.memory, strict=True):
            x, layer_cache = layer.step(x, index, layer_cache, visible, memory, context.source_visible)
            new.append(layer_cache)
        if self.config.norm_position == "pre":
            x = self.decoder_norm(x)
        return self.logits(x, transposed), DecodingCache(tuple(new), ancestors)
