"""JAX's settings belong to a thread: taking those of one to another.

A `with jax.default_device(...)` holds in the thread that entered it alone. Not for what is the same in all threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

_CONTEXTS: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_debug_nans": jax.debug_nans,
    "jax_disable_jit": jax.disable_jit,
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
}

_Result = TypeVar("_Result")


def thread_settings() -> dict[str, Any]:
    """JAX's settings in this thread, those of them that a `with` can change."""
    return {name: getattr(jax.config, name) for name in _CONTEXTS}


def run_with(settings: Mapping[str, Any], function: Callable[[], _Result]) -> _Result:
    """`function()` with the settings that another thread's `thread_settings` gave."""
    with contextlib.ExitStack() as stack:
        for name, value in settings.items():
            if value != getattr(jax.config, name):
                stack.enter_context(_CONTEXTS[name](value))
        return function()
