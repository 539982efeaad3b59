"""Which mesh axes split which logical dimensions, and the value of it that is in force while a model is traced.

Models name no mesh axes: they pass `current_shards()` to the ops that have to know. Not for placing arrays (`mesh`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jax.sharding import Mesh

from jaxformer.parallel.mesh import DATA_AXIS
from jaxformer.types import Shards

_CURRENT: ContextVar[Shards | None] = ContextVar("shards", default=None)


def shards_of(mesh: Mesh | None) -> Shards | None:
    """How data parallelism over `mesh` splits an op's operands; None where there is nothing to split."""
    return None if mesh is None or mesh.size == 1 else Shards(mesh, batch=(DATA_AXIS,))


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
