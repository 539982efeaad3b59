"""The device mesh of data parallelism, and how batches and parameters lie on it.

One axis, `data`: every device holds all parameters and a share of the rows; what they exchange is said in `rows`. Not
for sharded parameters, and not for starting several processes: `jax.distributed.initialize` has been called before,
where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxformer.config import MeshConfig

DATA_AXIS = "data"

_Tree = TypeVar("_Tree")


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of `config.data` devices (-1: all of them) along the one axis `data`.

    Args:
      config: the wanted layout.
      devices: to choose from, the first ones are taken; by default every device of every process.

    Raises:
      ValueError: if there are fewer devices than asked for, or some of several processes would have none.
    """
    available = list(jax.devices() if devices is None else devices)
    count = len(available) if config.data == -1 else config.data
    if count > len(available):
        raise ValueError(
            f"mesh.data={count} is more than the {len(available)} devices there are: "
            f"lower --config.mesh.data, or give -1 for all devices"
        )
    if jax.process_count() > 1 and count != len(available):
        raise ValueError(
            f"mesh.data={count} leaves some of the {len(available)} devices of {jax.process_count()} processes "
            "without work: give --config.mesh.data=-1"
        )
    return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading dimension, the rows of a batch, is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def place_batch(batch: _Tree, mesh: Mesh) -> _Tree:
    """A host batch (numpy leaves [B, ...]) on the mesh, split by rows.

    With several processes, each gives its own share of the rows of the global batch.

    Raises:
      ValueError: if the rows do not divide among the devices.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)


def place_replicated(tree: _Tree, mesh: Mesh) -> _Tree:
    """`tree` with every leaf whole on every device; with several processes, each gives the same values."""
    sharding = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree)


def first_copy(tree: _Tree) -> _Tree:
    """The first device's copy of replicated leaves: for work that one device does alone, such as translating."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
