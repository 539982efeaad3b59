"""Beam search with length normalisation and early stopping that loses nothing.

Live beams and finished hypotheses are kept apart: a hypothesis that ends leaves the beam, W unfinished ones go on, and
the best finished ones stay in a pool. Not for greedy search or sampling (`rollout`).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.decoding.hypotheses import (
    FREE,
    Cache,
    Hypotheses,
    ReorderedCache,
    StepFunction,
    forced_tokens,
    length_norm,
)
from jaxformer.decoding.rollout import greedy_search
from jaxformer.decoding.search import search_to_end
from jaxformer.decoding.selection import Extensions, best_extensions
from jaxformer.types import Array


class _State(NamedTuple):
    position: jax.Array
    last: jax.Array  # [B, W]: newest token of every live beam
    tokens: jax.Array  # [B, W, T]
    log_probs: jax.Array  # [B, W], never increasing along W, -inf for a beam that does not exist
    pool: Hypotheses  # [B, R], finished, best first
    forced: jax.Array  # [B, T], tokens that must be, FREE elsewhere
    longest_norm: jax.Array  # [B], `length_norm` of the longest output that a row may have
    cache: Cache


def beam_search(
    step: StepFunction,
    cache: Cache,
    *,
    batch_size: int,
    beam_size: int,
    max_length: int,
    bos_id: int,
    eos_id: int,
    length_penalty: float = 0.0,
    num_hypotheses: int | None = None,
    prefix: Array | None = None,
    max_lengths: Array | None = None,
    suppress: tuple[int, ...] = (),
    early_stopping: bool = True,
) -> Hypotheses:
    """The best hypotheses that a beam of `beam_size` finds, ranked by log-probability / `length_norm`.

    At every position, of all extensions of the W live beams by one token, those among the W most probable that end
    are finished, and the W most probable that do not end go on. Ties go to the better beam, then to the lower token id;
    a hypothesis found earlier wins over an equal one found later. With `beam_size=1` this is greedy search: a lone beam
    has no rivals, so its first hypothesis is its result.

    Args:
      step: the step function.
      cache: its cache at index 0, all beams of a row alike: leaves [B, W, ...], or a `ReorderedCache`.
      batch_size: rows, B.
      beam_size: width, W.
      max_length: longest output, T, the end-of-sentence id included.
      bos_id, eos_id: the begin- and end-of-sentence ids.
      length_penalty: alpha of Wu et al. 2016, equation 14; 0 ranks by plain log-probability.
      num_hypotheses: how many are returned for each row, R, at most W; None for W. Asking for fewer stops earlier.
      prefix: int32 [B, P], tokens that the outputs must begin with, 0 where the search is free.
      max_lengths: int32 [B], longest output of each row; at its last position the end-of-sentence id is forced.
      suppress: ids that are never chosen (unless by `prefix`); their probability is not given to the others.
      early_stopping: leave a row as soon as its result is certain. It changes the time, never the result.

    Returns:
      [B, R] hypotheses.

    Raises:
      ValueError: as of `greedy_search`, or for `num_hypotheses` out of range.
    """
    kept = beam_size if num_hypotheses is None else num_hypotheses
    if not 1 <= kept <= beam_size:
        raise ValueError(f"num_hypotheses must be between 1 and beam_size={beam_size}, got {kept}")
    if beam_size == 1:
        return greedy_search(
            step, cache, batch_size=batch_size, max_length=max_length, bos_id=bos_id, eos_id=eos_id,
            length_penalty=length_penalty, prefix=prefix, max_lengths=max_lengths, suppress=suppress,
        )
    search = BeamSearch(
        beam_size=beam_size, num_hypotheses=kept, max_length=max_length, bos_id=bos_id, eos_id=eos_id,
        length_penalty=length_penalty, suppress=suppress, early_stopping=early_stopping,
    )
    state = search.start(cache, batch_size, prefix=prefix, max_lengths=max_lengths)
    return search_to_end(search, step, state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """`beam_search` in parts, for a caller that pauses (see `search`); its arguments explain the fields.

    With a single beam this is not greedy search: the lone beam goes on after its first hypothesis.
    """

    beam_size: int
    num_hypotheses: int
    max_length: int
    bos_id: int
    eos_id: int
    length_penalty: float = 0.0
    suppress: tuple[int, ...] = ()
    early_stopping: bool = True

    def start(
        self, cache: Cache, batch_size: int, *, prefix: Array | None = None, max_lengths: Array | None = None
    ) -> _State:
        """The state before the first position, with `cache` at index 0."""
        width, kept, longest = self.beam_size, self.num_hypotheses, self.max_length
        limit = longest if max_lengths is None else jnp.clip(jnp.asarray(max_lengths, jnp.int32), 1, longest)
        empty = jnp.full((batch_size, kept), -jnp.inf, jnp.float32)
        return _State(
            position=jnp.int32(0),
            last=jnp.full((batch_size, width), self.bos_id, jnp.int32),
            tokens=jnp.zeros((batch_size, width, longest), jnp.int32),
            # All beams begin alike: only the first one exists, or the beam would fill with copies of one hypothesis.
            log_probs=jnp.full((batch_size, width), -jnp.inf, jnp.float32).at[:, 0].set(0.0),
            pool=Hypotheses(
                tokens=jnp.zeros((batch_size, kept, longest), jnp.int32),
                lengths=jnp.zeros((batch_size, kept), jnp.int32),
                scores=empty,
                log_probs=empty,
            ),
            forced=forced_tokens(batch_size, longest, self.eos_id, prefix, max_lengths),
            longest_norm=jnp.broadcast_to(length_norm(longest, self.length_penalty)[limit], (batch_size,)),
            cache=cache,
        )

    def advance(self, step: StepFunction, state: _State) -> _State:
        """Every live beam one token longer."""
        logits, cache = step(state.last, state.position, state.cache)
        forced = state.forced[:, state.position]
        going, ending = _extend(logits, state.log_probs, forced, self.eos_id, self.suppress)
        norm = length_norm(self.max_length, self.length_penalty)[state.position + 1]
        return _advance(state, going, ending, cache, norm, self.eos_id)

    def unfinished(self, state: _State) -> jax.Array:
        """bool [B]: rows in which a live beam may still change the result."""
        # Why stopping is safe. Let l be the log-probability of the best live beam. Every hypothesis still to come
        # extends a live beam by tokens of log-probability <= 0, so its log-probability is at most l <= 0; its length
        # is at most the row's limit M, and the norm never decreases with the length. Dividing a number <= 0 by a
        # larger norm makes it larger, so no score still to come exceeds l / norm(M). Once the worst hypothesis of
        # a full pool scores that much, none can enter the pool: an equal one loses to the earlier one. Nothing here
        # is lost to rounding either: addition, division and the table of norms are monotone in floating point, and a
        # log-softmax is never above 0 (its normaliser is at least the largest logit). Rows that are done may thus
        # go on beside the others without changing. An empty place in the pool scores -inf; so does a row without
        # a live beam, which ends there in any case.
        alive = state.log_probs[:, 0] > -jnp.inf
        if self.early_stopping:
            alive &= state.log_probs[:, 0] / state.longest_norm > state.pool.scores[:, -1]
        return alive

    def hypotheses(self, state: _State) -> Hypotheses:
        """[B, R], what has ended so far, best first."""
        return state.pool


def _extend(
    logits: jax.Array, log_probs: jax.Array, forced: jax.Array, eos_id: int, suppress: tuple[int, ...]
) -> tuple[Extensions, jax.Array]:
    """The W best extensions that do not end, and the log-probabilities [B, W] of the beams with the end of sentence."""
    width = logits.shape[1]
    free, normaliser = best_extensions(logits, log_probs, width, (eos_id, *suppress))
    ending = log_probs + (logits[..., eos_id] - normaliser)
    must = forced[:, None]
    is_free, ends = must == FREE, must == eos_id
    token = jnp.take_along_axis(logits, jnp.maximum(must, 0)[..., None], axis=-1)[..., 0]
    values = jnp.where(ends, -jnp.inf, log_probs + (token - normaliser))
    values, beams = jax.lax.top_k(values, width)
    going = Extensions(
        log_probs=jnp.where(is_free, free.log_probs, values),
        beams=jnp.where(is_free, free.beams, beams),
        tokens=jnp.where(is_free, free.tokens, must),
    )
    return going, jnp.where(is_free | ends, ending, -jnp.inf)


def _advance(
    state: _State, extensions: Extensions, ending: jax.Array, cache: Cache, norm: jax.Array, eos_id: int
) -> _State:
    """Moves what ended to the pool and makes the best of the rest the new beam."""
    going, parents, chosen = extensions
    width = going.shape[1]

    # An end counts only among the W most probable extensions. Without this, improbable short hypotheses would fill
    # the pool from the first position on, and a wide beam would prefer them (Murray and Chiang 2018).
    better_going = jnp.sum(going[:, None, :] > ending[:, :, None], axis=-1)
    better_ending = jnp.sum(ending[:, None, :] > ending[:, :, None], axis=-1)
    ending = jnp.where(better_going + better_ending < width, ending, -jnp.inf)
    ended = jax.lax.dynamic_update_index_in_dim(state.tokens, jnp.full_like(state.last, eos_id), state.position, axis=2)
    pool = _merge(state.pool, Hypotheses(ended, jnp.full_like(state.last, state.position + 1), ending / norm, ending))

    tokens = _pick(state.tokens, parents)
    return state._replace(
        position=state.position + 1,
        last=chosen,
        tokens=jax.lax.dynamic_update_index_in_dim(tokens, chosen, state.position, axis=2),
        log_probs=going,
        pool=pool,
        cache=_reordered(cache, parents),
    )


def _merge(pool: Hypotheses, found: Hypotheses) -> Hypotheses:
    """The best of both; of equal scores, those of `pool` first."""
    joined = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), pool, found)
    scores, order = jax.lax.top_k(joined.scores, pool.scores.shape[1])
    empty = scores == -jnp.inf
    best = jax.tree.map(lambda leaf: _pick(leaf, order), joined)
    return best._replace(
        tokens=jnp.where(empty[..., None], 0, best.tokens), lengths=jnp.where(empty, 0, best.lengths), scores=scores
    )


def _reordered(cache: Cache, parents: jax.Array) -> Cache:
    """The cache whose beam w continues the former beam `parents[:, w]`."""
    if isinstance(cache, ReorderedCache):
        return cache.reordered(parents)
    return jax.tree.map(lambda leaf: _pick(leaf, parents), cache)


def _pick(values: jax.Array, beams: jax.Array) -> jax.Array:
    """values [B, W, ...] at `beams` [B, R] of each row: whole slices, so that it copies rather than gathers."""
    return jax.vmap(lambda row, places: row[places])(values, beams)
