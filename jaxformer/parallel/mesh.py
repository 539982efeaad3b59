"""The device mesh, and how batches and states are put on it.

Four axes, of which those of one device do nothing: `data` and `fsdp` split the rows of a batch, `fsdp` stores a part of
every matrix as well, `context` splits sequences, `tensor` splits heads, feed-forward layers and vocabularies. What
splits what is the table in `layout`. Not for starting several processes: `jax.distributed.initialize` has been called
before, where there are any.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxformer.config import MeshConfig
from jaxformer.parallel.layout import Layout

AXES = ("data", "fsdp", "context", "tensor")
"""Outermost first: devices that are neighbours exchange the most."""

_Tree = TypeVar("_Tree")


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of the sizes that `config` gives; -1 stands for the devices that the other axes leave.

    Args:
      config: the wanted layout.
      devices: to choose from, the first ones are taken; by default every device of every process.

    Raises:
      ValueError: if there are fewer devices than asked for, or some of several processes would have none.
    """
    available = list(jax.devices() if devices is None else devices)
    sizes = mesh_sizes(config, len(available))
    count = math.prod(sizes.values())
    if jax.process_count() > 1 and count != len(available):
        raise ValueError(
            f"{_asked(config)} leaves some of the {len(available)} devices of {jax.process_count()} processes without "
            "work: give one axis -1 for the rest"
        )
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=available[:count])


def mesh_sizes(config: MeshConfig, count: int) -> dict[str, int]:
    """Devices along each axis, outermost first, where there are `count` devices.

    Raises:
      ValueError: if there are fewer than asked for, or the rest of them do not divide.
    """
    sizes = dict(zip(AXES, (config.data, config.fsdp, config.context, config.tensor), strict=True))
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if fixed > count:
        raise ValueError(
            f"{_asked(config)} is more than the {count} devices there are: lower one, or give one axis -1 for the rest"
        )
    for axis, size in sizes.items():
        if size == -1:
            if count % fixed:
                near = max(number for number in range(1, fixed) if count % number == 0)
                raise ValueError(
                    f"{_asked(config)}: {fixed} devices do not divide the {count} that there are; the nearest number "
                    f"that does is {near}"
                )
            sizes[axis] = count // fixed
    return sizes


def _asked(config: MeshConfig) -> str:
    sizes = {axis: getattr(config, axis) for axis in AXES}
    return " x ".join(f"mesh.{axis}={size}" for axis, size in sizes.items() if size != 1) or "mesh.data=1"


def make_layout(config: MeshConfig) -> Layout:
    """The layout of a run: the mesh of `config` with the one table."""
    return Layout(make_mesh(config))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def host_share(layout: Layout) -> tuple[int, int]:
    """Which share of a batch's rows this process reads, number `index` of `count` equal ones.

    Processes that hold other parts of the same rows read the same share.
    """
    parts = layout.parts("rows")
    if jax.process_count() == 1:
        return 0, 1
    places = NamedSharding(layout.mesh, PartitionSpec(layout.axes("rows") or None)).devices_indices_map((parts,))
    process: Any = jax.process_index()
    own = {index[0].start or 0 for device, index in places.items() if device.process_index == process}  # type: ignore[attr-defined]
    first, number = min(own), len(own)
    if own != set(range(first, first + number)) or first % number or parts % number:
        raise ValueError(
            f"this process would hold the parts {sorted(own)} of the {parts} parts of a batch: choose mesh.context and "
            "mesh.tensor that divide, or are divided by, the number of devices of a process"
        )
    return first // number, parts // number


def place_batch(batch: _Tree, layout: Layout) -> _Tree:
    """A host batch (numpy leaves [B], [B, T], ...) on the mesh, split by rows and along sequences.

    With several processes, each gives its own share of the rows of the global batch (`host_share`), at their whole
    length: of that its devices take their own columns.

    Raises:
      ValueError: if rows or lengths do not divide among the devices.
    """
    shardings = jax.tree.map(
        lambda spec: NamedSharding(layout.mesh, spec),
        layout.batch_specs(batch),
        is_leaf=lambda spec: isinstance(spec, PartitionSpec),
    )
    if jax.process_count() == 1:
        return jax.device_put(batch, shardings)
    _, count = host_share(layout)

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        whole = (leaf.shape[0] * count, *leaf.shape[1:])
        with jax.transfer_guard_host_to_device("allow"):  # JAX counts it as done in passing; it is what was asked for
            return jax.make_array_from_process_local_data(sharding, leaf, whole)

    return jax.tree.map(place, batch, shardings)


@functools.cache
def _made_whole(mesh: Mesh) -> Any:
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def first_copy(tree: _Tree, layout: Layout) -> _Tree:
    """Whole leaves on one device of this process: for work that one device does alone, such as translating."""
    mesh = layout.mesh
    if any(size > 1 for axis, size in mesh.shape.items() if axis != "data"):
        tree = _made_whole(mesh)(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
