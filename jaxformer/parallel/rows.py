"""Work that every device does on its own rows of a batch, and whose sums they then exchange once.

What travels is what this module says, and nothing that a compiler found convenient. Not for placing arrays (`mesh`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxformer.parallel.mesh import DATA_AXIS


def sum_over_rows(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """`function(whole, rows)`, a pytree of sums over rows, as a function of all rows of the batch.

    Args:
      function: of a pytree that every device has, and one whose leaves lead with rows, [B, ...].
      mesh: the rows are split over its devices; None or a single one changes nothing.
    """
    if mesh is None or mesh.size == 1:
        return function

    def on_own_rows(whole: Any, rows: Any) -> Any:
        return jax.lax.psum(function(whole, rows), DATA_AXIS)

    specs = (PartitionSpec(), PartitionSpec(DATA_AXIS))
    return jax.shard_map(on_own_rows, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
