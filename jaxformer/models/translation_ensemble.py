"""Encoder-decoders that translate together: what they believe comes next is averaged at every position.

Not for networks that are trained side by side (`encoder.Ensemble`): these were trained by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.models.encoder_decoder import DecodingCache, DecodingContext, EncoderDecoder
from jaxformer.types import Batch, Sequences


class EnsembleCache(NamedTuple):
    """What decoding has computed so far: a cache of each member."""

    members: tuple[DecodingCache, ...]

    @property
    def places(self) -> int:
        """Positions that each has room for."""
        return self.members[0].places

    def reordered(self, parents: jax.Array) -> EnsembleCache:
        """As `DecodingCache.reordered`."""
        return EnsembleCache(tuple(member.reordered(parents) for member in self.members))

    def grown(self, length: int) -> EnsembleCache:
        """As `DecodingCache.grown`."""
        return EnsembleCache(tuple(member.grown(length) for member in self.members))


class TranslationEnsemble(nnx.Module):
    """The mean of the probabilities of several networks, in place of one network wherever it only translates.

    Its methods are those of `EncoderDecoder` that a search uses; what they hand to each other is a tuple, one a member.
    The members may differ in everything but their vocabularies.

    Args:
      members: trained by themselves, with one vocabulary.

    Raises:
      ValueError: for none, or outputs of different vocabularies.
    """

    def __init__(self, members: Sequence[EncoderDecoder]) -> None:
        if not members:
            raise ValueError("an ensemble without members translates nothing: give at least one network")
        sizes = [member.output_kernel.shape[0] for member in members]
        if len(set(sizes)) > 1:
            raise ValueError(f"the members of an ensemble need one vocabulary, and theirs have {sizes} target pieces")
        self.members = nnx.List(members)

    @property
    def grouped(self) -> bool:
        """Whether several query heads of a member share keys and values."""
        return any(member.grouped for member in self.members)

    @property
    def transposed_output(self) -> tuple[jax.Array, ...]:
        """The output kernels as [D, V]."""
        return tuple(member.transposed_output for member in self.members)

    def check_length(self, length: int) -> None:
        """Refuses rows longer than a member knows: `ValueError`."""
        for member in self.members:
            member.check_length(length)

    def encode(self, source: Sequences) -> tuple[jax.Array, ...]:
        """[B, S, D] of each member, whose D may differ."""
        return tuple(member.encode(source) for member in self.members)

    def hidden(self, batch: Batch) -> tuple[jax.Array, ...]:
        """Decoder outputs [B, T, D] of each member under teacher forcing."""
        return tuple(member.hidden(batch) for member in self.members)

    def logits(self, hidden: tuple[jax.Array, ...]) -> jax.Array:
        """[*, D] of each member to float32 [*, V], the logarithm of their mean probability."""
        return _mean([member.logits(one) for member, one in zip(self.members, hidden, strict=True)])

    def start_decoding(
        self, encoded: tuple[jax.Array, ...], source: Sequences, *, beam_size: int, max_length: int
    ) -> tuple[EnsembleCache, tuple[DecodingContext, ...]]:
        """An empty cache, and the contexts for `decode_step`; see `EncoderDecoder.start_decoding`."""
        started = [
            member.start_decoding(one, source, beam_size=beam_size, max_length=max_length)
            for member, one in zip(self.members, encoded, strict=True)
        ]
        return EnsembleCache(tuple(cache for cache, _ in started)), tuple(context for _, context in started)

    def decode_step(
        self,
        tokens: jax.Array,
        index: jax.Array,
        cache: EnsembleCache,
        context: tuple[DecodingContext, ...],
        transposed: tuple[jax.Array, ...] | None = None,
    ) -> tuple[jax.Array, EnsembleCache]:
        """One target position of every beam: [B, W, V] as of `logits`, and the cache; see `EncoderDecoder`."""
        outputs = transposed or (None,) * len(self.members)
        steps = [
            member.decode_step(tokens, index, own, source, output)
            for member, own, source, output in zip(self.members, cache.members, context, outputs, strict=True)
        ]
        return _mean([logits for logits, _ in steps]), EnsembleCache(tuple(cache for _, cache in steps))


def _mean(logits: Sequence[jax.Array]) -> jax.Array:
    """The logarithm of the mean of the probabilities that `logits` [*, V] stand for."""
    log_probs = jnp.stack([jax.nn.log_softmax(one, axis=-1) for one in logits])
    return jax.nn.logsumexp(log_probs, axis=0) - math.log(len(logits))
