"""What every search takes and returns: step function, cache, hypotheses, length normalisation and forced tokens.

Not for search itself (`beam`, `rollout`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.types import Array

Cache = Any
"""What the step function keeps: a pytree with leaves [B, W, ...], or a `ReorderedCache`; perhaps a `BoundedCache`."""


@runtime_checkable
class ReorderedCache(Protocol):
    """A cache that knows how to follow beams which change places, so that its leaves need not lead with [B, W]."""

    def reordered(self, parents: jax.Array) -> Any:
        """The cache after beam w became a continuation of beam `parents[:, w]`, int32 [B, W]."""


@runtime_checkable
class BoundedCache(Protocol):
    """A cache with room for so many positions: what is written after the last of them would take its place."""

    @property
    def places(self) -> int:
        """How many positions it holds."""


StepFunction = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]
"""`step(tokens, index, cache) -> (logits, cache)`.

tokens: int32 [B, W], the token before the one to predict (the begin-of-sentence id at index 0); index: int32 scalar,
place in the output of the one to predict; logits: float32 [B, W, V], its unnormalised log-probabilities.
"""

FREE = -1
"""In an array of forced tokens: the search chooses."""


class Hypotheses(NamedTuple):
    """The outputs found for each row, best first.

    Where fewer than W hypotheses exist, the remaining ones have length 0 and log-probability minus infinity.

    Attributes:
      tokens: int32 [B, W, T], each ends in the end-of-sentence id, then zeros.
      lengths: int32 [B, W], tokens in each, the end-of-sentence id included.
      scores: float32 [B, W], `log_probs` divided by `length_norm` of the lengths; never increasing along W.
      log_probs: float32 [B, W], sum of the model's log-probabilities of all tokens: forced ones and the
        end-of-sentence id included, before any temperature or truncation.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array
    log_probs: jax.Array


def length_norm(max_length: int, alpha: float) -> jax.Array:
    """float32 [max_length + 1]: what the log-probability of each length is divided by: ((5 + length) / 6) ** alpha.

    Wu et al. 2016, "Google's Neural Machine Translation System", equation 14. Never decreases with the length.

    Raises:
      ValueError: for an `alpha` that is negative, under which early stopping would not be safe, or no number, or so
        large that float32 does not hold what long outputs are divided by.
    """
    if not alpha >= 0:
        raise ValueError(f"length_penalty must be 0 or greater, got {alpha}")
    with np.errstate(over="ignore"):
        norm = (((5.0 + np.arange(max_length + 1)) / 6.0) ** alpha).astype(np.float32)
    if not np.isfinite(norm).all():
        raise ValueError(
            f"length_penalty={alpha} is too large: long outputs, of up to {max_length} tokens, would all score 0; "
            "choose one near 1"
        )
    return jnp.asarray(norm)


def forced_tokens(
    batch_size: int, max_length: int, eos_id: int, prefix: Array | None, max_lengths: Array | None
) -> jax.Array:
    """int32 [B, T]: the token that each position must hold, `FREE` where the search chooses.

    `prefix` (int32 [B, P], 0 where free) is forced first; the end-of-sentence id is forced at the last position that
    `max_lengths` (int32 [B], clipped to 1..T) allows, so that every hypothesis is complete and its log-probability
    means the same as that of a sentence scored by the model. The end wins where both claim a position.

    Raises:
      ValueError: for no rows or no tokens.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or greater, got {batch_size}: there is nothing to search for")
    if max_length < 1:
        raise ValueError(f"max_length must be 1 or greater, got {max_length}")
    forced = jnp.full((batch_size, max_length), FREE, jnp.int32)
    if prefix is not None:
        given = jnp.asarray(prefix, jnp.int32)[:, :max_length]
        forced = forced.at[:, : given.shape[1]].set(jnp.where(given == 0, FREE, given))
    limit = jnp.full((batch_size,), max_length, jnp.int32)
    if max_lengths is not None:
        limit = jnp.clip(jnp.asarray(max_lengths, jnp.int32), 1, max_length)
    return jnp.where(jnp.arange(max_length)[None, :] == limit[:, None] - 1, eos_id, forced)
