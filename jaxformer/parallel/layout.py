"""Which axes of the mesh split which logical dimensions: the one table, and where every array lies by it.

A parameter says what its dimensions are called (`nnx.Param(..., dims=("vocabulary", "model"))`); models name no mesh
axis. Not for what travels between devices during a step (`rows`, `sharding`).
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxformer.types import RowLabels

TABLE: Mapping[str, tuple[str, ...]] = types.MappingProxyType({
    "rows": ("data", "fsdp"),  # of a batch
    "length": ("context",),  # of its sequences
    "vocabulary": ("tensor",),
    "heads": ("tensor",),  # and their key/value heads, in groups
    "feed_forward": ("tensor",),
    "model": ("fsdp",),  # of matrices, which are gathered for use
})  # fmt: skip
"""Logical dimension -> mesh axes that split it. Dimensions that are not named here are whole everywhere."""

_Tree = TypeVar("_Tree")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh with a table.

    Attributes:
      mesh: the devices; axes of one device split nothing.
      table: replace it to lay parameters out otherwise. An axis that splits rows may split parameters too, which are
        then gathered for use; any other must split either rows, or length, or dimensions of parameters.
    """

    mesh: Mesh
    table: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: TABLE)

    def axes(self, dim: str | None) -> tuple[str, ...]:
        """The axes that split a logical dimension, those of one device left out."""
        return tuple(axis for axis in self.table.get(dim or "", ()) if self.mesh.shape.get(axis, 1) > 1)

    def parts(self, dim: str) -> int:
        """Into how many parts `dim` is split."""
        return self._size(self.axes(dim))

    @property
    def batch_axes(self) -> tuple[str, ...]:
        """The axes along which devices have different parts of a batch: what each of them sums is a part of a sum."""
        return self.axes("rows") + self.axes("length")

    def axes_in_use(self, dim: str) -> tuple[str, ...]:
        """The axes that split `dim` of activations and of parameters while they are used; for `dim` other than rows."""
        rows = self.axes("rows")
        return tuple(axis for axis in self.axes(dim) if axis not in rows)

    def stored_axes(self, dim: str, dims: tuple[str, ...]) -> tuple[str, ...]:
        """The axes that split `dim` of a parameter with `dims` for storage alone: those that split rows as well.

        Vectors are not worth the exchange and stay whole.
        """
        rows = self.axes("rows")
        return tuple(axis for axis in self.axes(dim) if axis in rows and len(dims) > 1)

    def exchanges_heads(self, num_kv_heads: int) -> bool:
        """Whether attention over parts of sequences exchanges heads for positions: if key/value heads divide for it.

        Where they do not, it gathers keys and values, which sends more. Query heads are a multiple of these.
        """
        return num_kv_heads % self._size(self.axes_in_use("heads") + self.axes_in_use("length")) == 0

    def _size(self, axes: tuple[str, ...]) -> int:
        return math.prod(self.mesh.shape[axis] for axis in axes)

    def _parameter_axes(self, dim: str, dims: tuple[str, ...]) -> tuple[str, ...]:
        return self.axes_in_use(dim) + self.stored_axes(dim, dims)

    def spec(self, shape: tuple[int, ...], dims: tuple[str, ...]) -> PartitionSpec:
        """How an array with these logical dimensions lies; of more dimensions (scanned layers), they are the last.

        Whole where an optimizer keeps something of another shape for a parameter, such as a row of means for a matrix.
        """
        if len(shape) < len(dims) or not dims:
            return PartitionSpec()
        axes = [self._parameter_axes(dim, dims) for dim in dims]
        lead = len(shape) - len(dims)
        if any(size % self._size(split) for size, split in zip(shape[lead:], axes, strict=True)):
            return PartitionSpec()
        while axes and not axes[-1]:  # JAX tells P(None) from P(), and would compile a step for each
            axes.pop()
        return PartitionSpec(*(None,) * lead, *(split or None for split in axes)) if axes else PartitionSpec()

    def _spec_of(self, leaf: Any, dims: tuple[str, ...]) -> PartitionSpec:
        return self.spec(getattr(leaf, "shape", ()), dims)

    def specs(self, tree: _Tree) -> _Tree:
        """A `PartitionSpec` for every leaf of a tree: of parameters, or of what an optimizer keeps for them."""
        return map_variables(self._spec_of, tree)

    def shardings(self, tree: _Tree) -> _Tree:
        """A `NamedSharding` for every leaf of such a tree."""
        return map_variables(lambda leaf, dims: NamedSharding(self.mesh, self._spec_of(leaf, dims)), tree)

    def batch_specs(self, batch: _Tree) -> _Tree:
        """A `PartitionSpec` for every array of a batch: rows lead and the length is second, but not of `RowLabels`."""
        rows, length = self.axes("rows") or None, self.axes("length") or None

        def specs(part: Any) -> Any:
            if isinstance(part, RowLabels):
                return jax.tree.map(lambda _: PartitionSpec(rows), part)
            return PartitionSpec(rows, length) if part.ndim > 1 else PartitionSpec(rows)

        return jax.tree.map(specs, batch, is_leaf=lambda part: isinstance(part, RowLabels))

    def describe(self) -> str:
        """The axes of more than one device, such as `data=4, tensor=2`; or `data=1`."""
        sizes = {axis: size for axis, size in self.mesh.shape.items() if size > 1} or {"data": 1}
        return ", ".join(f"{axis}={size}" for axis, size in sizes.items())

    def check(self, params: Any, multiples: Mapping[str, int] = types.MappingProxyType({})) -> None:
        """Refuses parameters that do not divide over the devices.

        Args:
          params: the tree of them.
          multiples: logical dimension -> what its size must be a multiple of on any devices, such as D of the heads.

        Raises:
          ValueError: with the nearest sizes that do.
        """

        def check(leaf: Any, dims: tuple[str, ...]) -> None:
            for dim, size in zip(dims, leaf.shape[len(leaf.shape) - len(dims) :], strict=True):
                axes = self._parameter_axes(dim, dims)
                if size % (parts := self._size(axes)):
                    if dim == "vocabulary":
                        raise ValueError(
                            f"the vocabulary ({size} pieces) does not divide over the {parts} devices of "
                            f"mesh.{' and mesh.'.join(axes)}: make --config.data.vocabulary_size a multiple of {parts}"
                        )
                    step = math.lcm(parts, multiples.get(dim, 1))
                    near = [number for number in (size // step * step, -(-size // step) * step) if number]
                    raise ValueError(
                        f"{size}, the size of the dimension {dim!r} of a parameter, does not divide over the {parts} "
                        f"devices of mesh.{' and mesh.'.join(axes)}: {' or '.join(map(str, near))} would, or "
                        "fewer devices along this axis"
                    )

        map_variables(check, params)


def map_variables(function: Callable[..., Any], *trees: Any) -> Any:
    """`function(array, ..., dims)` over trees of variables and plain leaves, which have no dims: `()`.

    The result has the structure of the first tree, down to its variables.
    """

    def apply(first: Any, *others: Any) -> Any:
        if not isinstance(first, nnx.Variable):
            return function(first, *others, ())
        dims = tuple(first.get_metadata().get("dims", ()))
        return first.replace(function(first.get_raw_value(), *(other.get_raw_value() for other in others), dims))

    return jax.tree.map(apply, *trees, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
