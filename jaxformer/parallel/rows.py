"""Work that every device does on its own part of a batch with its own part of the parameters, and the sums of it.

What travels is what this module and `sharding` say, and nothing that a compiler found convenient: every device runs
the function as it stands. Not for placing arrays (`mesh`, `layout`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jaxformer.parallel.layout import Layout, map_variables
from jaxformer.parallel.sharding import use_layout

_Function = Callable[..., Any]


def sum_over_rows(function: _Function, layout: Layout | None) -> _Function:
    """`function(whole, rows)`, a pytree of sums over rows, as a function of all rows of the batch.

    Args:
      function: of a pytree that does not belong to rows, parameters among it, and one whose leaves lead with rows,
        [B, ...], with the length second, [B, T], where there is one; see `Layout.batch_specs`.
      layout: how both are split; None, or one of a single device, changes nothing.
    """
    if layout is None or layout.mesh.size == 1:
        return function

    def on_own_rows(whole: Any, rows: Any) -> Any:
        with use_layout(layout):
            return _sum(function(whole, rows), layout.batch_axes)

    return _on_devices(on_own_rows, layout, lambda whole: PartitionSpec())


def gradients_over_rows(function: _Function, layout: Layout | None) -> _Function:
    """The same for `function(params, others, rows)` that returns gradients, like `params`, and a pytree of sums.

    Gradients stay split as parameters are.
    """
    if layout is None or layout.mesh.size == 1:
        return function
    batch_axes = layout.batch_axes

    def on_own_rows(whole: tuple[Any, Any], rows: Any) -> Any:
        params, others = whole
        with use_layout(layout):
            gradients, sums = function(params, others, rows)

        def total(leaf: jax.Array, dims: tuple[str, ...]) -> jax.Array:
            stored = {axis for dim in dims for axis in layout.stored_axes(dim, dims)}  # these are summed already
            return _sum(leaf, tuple(axis for axis in batch_axes if axis not in stored))

        return map_variables(total, gradients), _sum(sums, batch_axes)

    out = lambda whole: (layout.specs(whole[0]), PartitionSpec())  # noqa: E731
    run = _on_devices(on_own_rows, layout, out)
    return lambda params, others, rows: run((params, others), rows)


def _sum(tree: Any, axes: tuple[str, ...]) -> Any:
    return jax.lax.psum(tree, axes) if axes else tree


def _on_devices(function: _Function, layout: Layout, out_specs: Callable[[Any], Any]) -> _Function:
    def over_all(whole: Any, rows: Any) -> Any:
        return jax.shard_map(
            function,
            mesh=layout.mesh,
            in_specs=(layout.specs(whole), layout.batch_specs(rows)),
            out_specs=out_specs(whole),
            check_vma=False,
        )(whole, rows)

    return over_all
