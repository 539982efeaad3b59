"""Search that never looks back: greedy and sampling.

Not for beam search, which keeps rivals (`beam`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.decoding.hypotheses import FREE, Cache, Hypotheses, StepFunction, forced_tokens, length_norm
from jaxformer.decoding.search import search_to_end
from jaxformer.decoding.selection import best_free, log_normaliser, truncate
from jaxformer.types import Array

_COLDEST = 1e-30
"""Temperature below which the most probable is drawn all the same; logits divided by less would not stay finite."""


class _State(NamedTuple):
    position: jax.Array
    last: jax.Array  # [B, W]
    tokens: jax.Array  # [B, W, T]
    lengths: jax.Array  # [B, W]
    log_probs: jax.Array  # [B, W]
    done: jax.Array  # bool [B, W]
    forced: jax.Array  # [B, T], tokens that must be, FREE elsewhere
    keys: Any  # key<..>[B] for sampling, else None
    cache: Cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedySearch:
    """`greedy_search` in parts, for a caller that pauses (see `search`); its arguments explain the fields."""

    max_length: int
    bos_id: int
    eos_id: int
    length_penalty: float = 0.0
    suppress: tuple[int, ...] = ()

    def start(
        self,
        cache: Cache,
        batch_size: int,
        *,
        width: int = 1,
        keys: jax.Array | None = None,
        prefix: Array | None = None,
        max_lengths: Array | None = None,
    ) -> _State:
        """The state before the first position of `width` independent outputs a row, with `cache` at index 0."""
        return _State(
            position=jnp.int32(0),
            last=jnp.full((batch_size, width), self.bos_id, jnp.int32),
            tokens=jnp.zeros((batch_size, width, self.max_length), jnp.int32),
            lengths=jnp.zeros((batch_size, width), jnp.int32),
            log_probs=jnp.zeros((batch_size, width), jnp.float32),
            done=jnp.zeros((batch_size, width), bool),
            forced=forced_tokens(batch_size, self.max_length, self.eos_id, prefix, max_lengths),
            keys=keys,
            cache=cache,
        )

    def choose(self, logits: jax.Array, state: _State) -> tuple[jax.Array, jax.Array]:
        """The next tokens, int32 [B, W], from logits [B, W, V]; and the largest of these logits, suppressed ids too."""
        return best_free(logits, self.suppress)

    def advance(self, step: StepFunction, state: _State) -> _State:
        """Every output that has not ended one token longer."""
        logits, cache = step(state.last, state.position, state.cache)
        must = state.forced[:, state.position][:, None]
        chosen, highest = self.choose(logits, state)
        chosen = jnp.where(must == FREE, chosen, must)
        log_prob = jnp.take_along_axis(logits, chosen[..., None], axis=-1)[..., 0] - log_normaliser(logits, highest)
        chosen = jnp.where(state.done, 0, chosen)
        return state._replace(
            position=state.position + 1,
            # A finished output is fed the end-of-sentence id: any valid token does, since nothing reads the result.
            last=jnp.where(state.done, self.eos_id, chosen),
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, chosen, state.position, axis=2),
            lengths=state.lengths + ~state.done,
            log_probs=jnp.where(state.done, state.log_probs, state.log_probs + log_prob),
            done=state.done | (chosen == self.eos_id),
            cache=cache,
        )

    def unfinished(self, state: _State) -> jax.Array:
        """bool [B]: rows with an output that has not ended. The last position of every row is forced to end it."""
        return ~state.done.all(axis=1)

    def hypotheses(self, state: _State) -> Hypotheses:
        """[B, W], best first."""
        norm = length_norm(self.max_length, self.length_penalty)
        scores, order = jax.lax.top_k(state.log_probs / norm[state.lengths], state.last.shape[1])
        pick = lambda values: jnp.take_along_axis(values, order, axis=1)  # noqa: E731
        tokens = jnp.take_along_axis(state.tokens, order[..., None], axis=1)
        return Hypotheses(tokens, pick(state.lengths), scores, pick(state.log_probs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(GreedySearch):
    """`sample` in parts, for a caller that pauses; needs `keys` at the start."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be greater than 0 and finite, got {self.temperature}")

    def choose(self, logits: jax.Array, state: _State) -> tuple[jax.Array, jax.Array]:
        """Drawn from the distribution that truncation leaves."""
        free = _suppressed(logits, self.suppress)
        values, ids = truncate(free.astype(jnp.float32) / max(self.temperature, _COLDEST), self.top_k, self.top_p)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, state.position)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(key, row, axis=-1))(step_keys, values)
        return jnp.take_along_axis(ids, drawn[..., None], axis=-1)[..., 0], logits.max(axis=-1)


def _suppressed(logits: jax.Array, suppress: tuple[int, ...]) -> jax.Array:
    if not suppress:
        return logits
    return logits.at[..., jnp.asarray(suppress)].set(-jnp.inf)


def greedy_search(
    step: StepFunction,
    cache: Cache,
    *,
    batch_size: int,
    max_length: int,
    bos_id: int,
    eos_id: int,
    length_penalty: float = 0.0,
    prefix: Array | None = None,
    max_lengths: Array | None = None,
    suppress: tuple[int, ...] = (),
) -> Hypotheses:
    """Takes the most probable token (the lowest id among equals) at every position.

    Args:
      step: the step function; called with W = 1.
      cache: its cache at index 0, leaves [B, 1, ...].
      batch_size: rows, B.
      max_length: longest output, T, the end-of-sentence id included.
      bos_id, eos_id: the begin- and end-of-sentence ids.
      length_penalty: only for the scores reported.
      prefix: int32 [B, P], tokens that the outputs must begin with, 0 where the search is free.
      max_lengths: int32 [B], longest output of each row; at its last position the end-of-sentence id is forced.
      suppress: ids that are never chosen (unless by `prefix`); their probability is not given to the others.

    Returns:
      one hypothesis a row (W = 1).

    Raises:
      ValueError: for settings out of range, or a cache with fewer places than `max_length`.
    """
    search = GreedySearch(
        max_length=max_length, bos_id=bos_id, eos_id=eos_id, length_penalty=length_penalty, suppress=suppress
    )
    state = search.start(cache, batch_size, prefix=prefix, max_lengths=max_lengths)
    return search_to_end(search, step, state)


def sample(
    step: StepFunction,
    cache: Cache,
    *,
    keys: Any,
    num_samples: int,
    max_length: int,
    bos_id: int,
    eos_id: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    length_penalty: float = 0.0,
    prefix: Array | None = None,
    max_lengths: Array | None = None,
    suppress: tuple[int, ...] = (),
) -> Hypotheses:
    """Draws W = `num_samples` independent outputs a row from the model's distribution, reshaped.

    Logits are divided by `temperature`, then cut to the `top_k` largest, then to the nucleus of mass `top_p` (0 and 1
    keep everything); see `selection.truncate`. What a row draws depends on its own key alone, not on its neighbours.

    Args:
      keys: one JAX key a row, key<..>[B].
      The others: as in `greedy_search`, with cache leaves [B, W, ...].

    Returns:
      the samples sorted by score; log-probabilities are the model's own, whatever the temperature.

    Raises:
      ValueError: as of `greedy_search`.
    """
    search = Sampling(
        max_length=max_length, bos_id=bos_id, eos_id=eos_id, length_penalty=length_penalty, suppress=suppress,
        temperature=temperature, top_k=top_k, top_p=top_p,
    )
    state = search.start(cache, keys.shape[0], width=num_samples, keys=keys, prefix=prefix, max_lengths=max_lengths)
    return search_to_end(search, step, state)
