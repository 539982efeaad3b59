"""Which mesh axes split the operands of ops inside a model, a value that is in force while the model is traced.

Models name no mesh axes: they pass `current_shards()` to the ops that have to know. Not for rows, of which every device
has its own (`rows`), nor for placing arrays (`mesh`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jaxformer.types import Shards

_CURRENT: ContextVar[Shards | None] = ContextVar("shards", default=None)


@contextlib.contextmanager
def use_shards(shards: Shards | None) -> Iterator[None]:
    """What is traced inside the block, in this thread, is split as `shards` says."""
    token = _CURRENT.set(shards)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_shards() -> Shards | None:
    """What `use_shards` said; None outside of it."""
    return _CURRENT.get()
