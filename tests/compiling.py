"""What a test may ask of the compiler: more work, for programs that are run many times, or as a run has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax

OLDER_LOOPS = "--xla_cpu_use_fusion_emitters=false"
"""XLA's older way of writing loops for a CPU, which compiles in less than half the time; not known to every version."""
ONE_MODULE = "--xla_cpu_parallel_codegen_split_count=1"
"""A program is not cut up to be compiled by several threads: every core has a process of tests already."""


@contextlib.contextmanager
def optimized() -> Iterator[None]:
    """Programs are compiled with LLVM's costly passes, as in a run, which training for hundreds of steps repays."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def as_a_run() -> dict[str, str]:
    """The environment of a process that compiles like a person's, whatever this one does to save time."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    flags = environment.pop("XLA_FLAGS", "").split()
    return environment | {"XLA_FLAGS": " ".join(flag for flag in flags if flag not in (OLDER_LOOPS, ONE_MODULE))}
