"""What a test may ask of the compiler: more work, for programs that are run many times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def optimized() -> Iterator[None]:
    """Programs are compiled with LLVM's costly passes, as in a run, which training for hundreds of steps repays."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
