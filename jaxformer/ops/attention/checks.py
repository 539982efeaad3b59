"""What a call of attention must fulfil, whichever implementation takes it; not what one of them cannot do.

Arrays are asked for shapes and dtypes alone: inside `jit` their values are not known.
"""

from __future__ import annotations


def check_dropout(rate: float) -> None:
    """Raises `ValueError` for a rate outside of [0, 1), nan included, also where no seed switches dropout on."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout is the rate at which weights are dropped, at least 0 and less than 1, got {rate}")
