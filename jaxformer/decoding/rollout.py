"""Search that never looks back: greedy and sampling.

Not for beam search, which keeps rivals (`beam`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.decoding.hypotheses import FREE, Cache, Hypotheses, StepFunction, forced_tokens, length_norm
from jaxformer.decoding.selection import top_k, truncate
from jaxformer.types import Array


class _State(NamedTuple):
    position: jax.Array
    last: jax.Array  # [B, W]
    tokens: jax.Array  # [B, W, T]
    lengths: jax.Array  # [B, W]
    log_probs: jax.Array  # [B, W]
    done: jax.Array  # bool [B, W]
    cache: Cache


def _suppressed(logits: jax.Array, suppress: tuple[int, ...]) -> jax.Array:
    if not suppress:
        return logits
    return logits.at[..., jnp.asarray(suppress)].set(-jnp.inf)


def _rollout(
    step: StepFunction,
    cache: Cache,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    forced: jax.Array,
    *,
    width: int,
    bos_id: int,
    eos_id: int,
    length_penalty: float,
) -> Hypotheses:
    """Extends W independent outputs a row by `choose(logits, position)` [B, W] until every one has ended."""
    batch_size, max_length = forced.shape
    norm = length_norm(max_length, length_penalty)

    def body(state: _State) -> _State:
        logits, cache = step(state.last, state.position, state.cache)
        must = forced[:, state.position][:, None]
        chosen = jnp.where(must == FREE, choose(logits, state.position), must)
        log_prob = jnp.take_along_axis(logits, chosen[..., None], axis=-1)[..., 0] - jax.nn.logsumexp(logits, axis=-1)
        chosen = jnp.where(state.done, 0, chosen)
        return _State(
            position=state.position + 1,
            # A finished output is fed the end-of-sentence id: any valid token does, since nothing reads the result.
            last=jnp.where(state.done, eos_id, chosen),
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, chosen, state.position, axis=2),
            lengths=state.lengths + ~state.done,
            log_probs=jnp.where(state.done, state.log_probs, state.log_probs + log_prob),
            done=state.done | (chosen == eos_id),
            cache=cache,
        )

    start = _State(
        position=jnp.int32(0),
        last=jnp.full((batch_size, width), bos_id, jnp.int32),
        tokens=jnp.zeros((batch_size, width, max_length), jnp.int32),
        lengths=jnp.zeros((batch_size, width), jnp.int32),
        log_probs=jnp.zeros((batch_size, width), jnp.float32),
        done=jnp.zeros((batch_size, width), bool),
        cache=cache,
    )
    # The last position of every row is forced to end it, so this ends after at most T steps.
    end = jax.lax.while_loop(lambda state: ~jnp.all(state.done), body, start)
    scores, order = jax.lax.top_k(end.log_probs / norm[end.lengths], width)
    pick = lambda values: jnp.take_along_axis(values, order, axis=1)  # noqa: E731
    tokens = jnp.take_along_axis(end.tokens, order[..., None], axis=1)
    return Hypotheses(tokens, pick(end.lengths), scores, pick(end.log_probs))


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
    """

    def choose(logits: jax.Array, position: jax.Array) -> jax.Array:
        return top_k(_suppressed(logits, suppress), 1)[1][..., 0]

    forced = forced_tokens(batch_size, max_length, eos_id, prefix, max_lengths)
    return _rollout(
        step, cache, choose, forced, width=1, bos_id=bos_id, eos_id=eos_id, length_penalty=length_penalty
    )


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
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    batch_size = keys.shape[0]

    def choose(logits: jax.Array, position: jax.Array) -> jax.Array:
        values, ids = truncate(_suppressed(logits, suppress) / temperature, top_k, top_p)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(key, row, axis=-1))(step_keys, values)
        return jnp.take_along_axis(ids, drawn[..., None], axis=-1)[..., 0]

    forced = forced_tokens(batch_size, max_length, eos_id, prefix, max_lengths)
    return _rollout(
        step, cache, choose, forced, width=num_samples, bos_id=bos_id, eos_id=eos_id, length_penalty=length_penalty
    )
