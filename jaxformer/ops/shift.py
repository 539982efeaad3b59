"""Decoder inputs from labels (teacher forcing), for plain and for packed rows."""

import jax
import jax.numpy as jnp


def shift_right(
    tokens: jax.Array, positions: jax.Array, bos_id: int, *, before: jax.Array | None = None
) -> jax.Array:
    """Each token's predecessor in its own sequence; `bos_id` where a sequence begins.

    Args:
      tokens: int32 [B, T], labels; several sequences may be packed in a row.
      positions: int32 [B, T], position of each token in its own sequence, from 0.
      bos_id: id that opens every sequence.
      before: int32 [B, 1], the column before the first one, where rows are a part of longer ones.

    Returns:
      int32 [B, T], the inputs of a decoder whose outputs are compared with `tokens`.
    """
    rolled = jnp.roll(tokens, 1, axis=1)
    if before is not None:
        rolled = rolled.at[:, :1].set(before)
    return jnp.where(positions == 0, bos_id, rolled)
