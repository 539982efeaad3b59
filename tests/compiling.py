"""What a test may ask of the compiler: the work of a real run, for programs that are run many times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def optimized() -> Iterator[None]:
    """Programs are compiled as a run compiles them, which training for hundreds of steps repays."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
