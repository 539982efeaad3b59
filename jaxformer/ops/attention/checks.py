"""What a call of attention must fulfil, whichever implementation takes it; not what one of them cannot do.

Arrays are asked for shapes and dtypes alone: inside `jit` their values are not known.
"""

from __future__ import annotations

import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxformer.ops.attention.mask import Mask


def check_dropout(rate: float) -> None:
    """Raises `ValueError` for a rate outside of [0, 1), nan included, also where no seed switches dropout on."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout is the rate at which weights are dropped, at least 0 and less than 1, got {rate}")


def check_scale(scale: Any) -> None:
    """Raises `TypeError` for a scale of the scores that is neither None nor a real number, or an array of one."""
    dtype = getattr(scale, "dtype", None)
    real = dtype is not None and (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))
    number = (real and scale.shape == ()) or (isinstance(scale, numbers.Real) and not isinstance(scale, bool))
    if scale is not None and not number:
        what = f"{dtype} of shape {scale.shape}" if dtype is not None else repr(scale)
        raise TypeError(f"scale is the number that scores are multiplied by, or None for 1 / sqrt(H), got {what}")


def check_mask(mask: Any, batch: int, num_queries: int, num_keys: int) -> None:
    """Raises for a mask that does not fit the call; not when it is made, as `&` may put it together from parts.

    Args:
      mask: a `Mask` whose arrays may be shapes and dtypes; None is a mask of nothing.
      batch: B.
      num_queries: T.
      num_keys: S.

    Raises:
      TypeError: for what is no `Mask`, or holds something else than arrays, a whole number as its window, and True or
        False as its causal.
      ValueError: for segment ids of one side alone, a negative window, and arrays of another shape or of no integers.
    """
    if mask is None:
        return
    if not isinstance(mask, Mask):
        raise TypeError(
            f"attention takes mask as a Mask or None, got {type(mask).__name__}: say what is visible by lengths,"
            " segment ids, causal or window, as in Mask(key_lengths=...)"
        )
    if not isinstance(mask.causal, (bool, np.bool_)):
        raise TypeError(
            f"the mask's causal must be True or False, known when the call is traced, got {type(mask.causal).__name__}:"
            " what rows see is said by lengths or segment ids"
        )
    _check_window(mask.window)
    queries, keys = mask.query_segment_ids is not None, mask.key_segment_ids is not None
    if queries != keys:
        given, missing = ("query", "key") if queries else ("key", "query")
        raise ValueError(f"the mask has {given}_segment_ids without {missing}_segment_ids: give both, or neither")
    _check_integers("query_lengths", mask.query_lengths, "[B]", (batch,))
    _check_integers("key_lengths", mask.key_lengths, "[B]", (batch,))
    _check_integers("query_segment_ids", mask.query_segment_ids, "[B, T]", (batch, num_queries))
    _check_integers("key_segment_ids", mask.key_segment_ids, "[B, S]", (batch, num_keys))
    _check_integers("query_offset", mask.query_offset, "[1]", (1,))


def _check_window(window: Any) -> None:
    if window is None:
        return
    if not isinstance(window, numbers.Integral):
        raise TypeError(f"the mask's window must be an int known when the call is traced, got {type(window).__name__}")
    if window < 0:
        raise ValueError(
            f"the mask's window must be at least 0, where a query sees the key of its own index alone, got {window};"
            " None sets no window"
        )


def _check_integers(name: str, array: Any, letters: str, shape: tuple[int, ...]) -> None:
    """Raises unless what a mask has for an array is None or integers of that shape; one row is that of all rows."""
    if array is None:
        return
    wanted = f"the mask's {name} must be integers of shape {letters}, here {shape}"
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        raise TypeError(f"{wanted}, got {type(array).__name__}: make it an array, as by jnp.asarray")
    if array.shape not in (shape, (1, *shape[1:])):
        raise ValueError(f"{wanted}, got shape {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{wanted}, got {array.dtype}")
