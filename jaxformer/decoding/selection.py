"""Choosing among the vocabulary: an exact top-k that is fast on every device, its normaliser, truncation.

Not for drawing random numbers or for keeping hypotheses.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_BLOCK = 80
"""Entries whose maximum stands for them in the first pass of `top_k`."""


def top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest of the last axis and their indices, exactly as `jax.lax.top_k`: ties go to the lower index.

    For few out of many, two passes: the maximum of every block, then the k best blocks alone. An entry of another
    block cannot be among the k largest, because each of the k blocks chosen holds one at least as large (and, if
    equal, at a lower index, since ties between blocks go to the lower block). The first pass is a plain reduction,
    which vectorises: on a CPU (2 cores, float32 [32, 4, 8000], k = 4) 0.3 ms against 1.2 ms for `jax.lax.top_k` and
    2.4 ms for `argmax`.

    Args:
      values: float [*, V].
      k: at most V.

    Returns:
      values [*, k] in decreasing order, int32 indices [*, k].
    """
    size = values.shape[-1]
    num_blocks = -(-size // _BLOCK)
    if 2 * k * _BLOCK > size:
        return _plain_top_k(values, k)
    lead = values.shape[:-1]
    padding = [(0, 0)] * len(lead) + [(0, num_blocks * _BLOCK - size)]
    padded = jnp.pad(values, padding, constant_values=-jnp.inf) if padding[-1][1] else values
    maxima = padded.reshape(*lead, num_blocks, _BLOCK).max(axis=-1)
    _, blocks = _plain_top_k(maxima, k)
    # Ascending blocks keep the candidates in the order of the vocabulary, so that ties still go to the lower index.
    blocks = jnp.sort(blocks, axis=-1)
    indices = (blocks[..., None] * _BLOCK + jnp.arange(_BLOCK)).reshape(*lead, k * _BLOCK)
    candidates = jnp.take_along_axis(values, jnp.minimum(indices, size - 1), axis=-1)
    candidates = jnp.where(indices < size, candidates, -jnp.inf)
    best, places = _plain_top_k(candidates, k)
    return best, jnp.take_along_axis(indices, places, axis=-1).astype(jnp.int32)


def _plain_top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` behind a reshape: a slice of its result would merge with that of the operation itself.

    XLA's CPU backend then no longer knows it for what it is, and sorts all the values.
    """
    best, places = jax.lax.top_k(values.reshape(-1, values.shape[-1]), k)
    return best.reshape(*values.shape[:-1], k), places.reshape(*values.shape[:-1], k)


def log_normaliser(logits: jax.Array, highest: jax.Array) -> jax.Array:
    """The logarithm of the sum of exponentials of `logits` [*, V], whose maximum [*] is known: one pass instead of two.

    At least `highest`, in floating point too: no log-softmax of it is above 0.
    """
    return highest + jnp.log(jnp.exp(logits - highest[..., None]).sum(axis=-1))


def truncate(logits: jax.Array, k: int, p: float) -> tuple[jax.Array, jax.Array]:
    """The entries that sampling may draw: the k largest (Fan et al. 2018), then the nucleus (Holtzman et al. 2020).

    The nucleus is the smallest set of most probable entries whose mass, among the k, reaches `p`; never empty.

    Args:
      logits: float [*, V].
      k: entries kept; 0, or V and more, for all.
      p: mass kept, greater than 0, at most 1.

    Returns:
      logits [*, K] in decreasing order, minus infinity where cut off, and their int32 indices [*, K].
    """
    if not 0.0 < p <= 1.0:
        raise ValueError(f"top_p must be greater than 0 and at most 1, got {p}")
    size = logits.shape[-1]
    values, indices = top_k(logits, min(k, size) if k else size)
    if p < 1.0:
        probabilities = jax.nn.softmax(values, axis=-1)
        mass_before = jnp.cumsum(probabilities, axis=-1) - probabilities
        kept = (mass_before < p).at[..., 0].set(True)
        values = jnp.where(kept, values, -jnp.inf)
    return values, indices
