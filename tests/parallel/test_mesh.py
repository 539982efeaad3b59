"""The mesh: refusals here, and placement on eight simulated devices in a process of its own."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from jaxformer.config import MeshConfig
from jaxformer.parallel import mesh as mesh_lib
from jaxformer.parallel.layout import Layout
from tests.devices import run_on_eight_devices


def test_the_default_mesh_takes_every_device():
    mesh = mesh_lib.make_mesh(MeshConfig())
    assert mesh.devices.size == jax.device_count()
    assert mesh.axis_names == ("data", "fsdp", "context", "tensor")
    assert mesh.shape["data"] == jax.device_count()


def test_more_devices_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=rf"mesh.data=4096 is more than the {jax.device_count()} devices"):
        mesh_lib.make_mesh(MeshConfig(data=4096))


def test_a_placed_tree_keeps_its_values():
    layout = mesh_lib.make_layout(MeshConfig(data=1))
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(3, 2)}
    np.testing.assert_array_equal(mesh_lib.place_batch(tree, layout)["a"], tree["a"])


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({"data": -1}, (8, 1, 1, 1)),
        ({"data": -1, "tensor": 2}, (4, 1, 1, 2)),
        ({"data": 2, "fsdp": -1, "context": 2}, (2, 2, 2, 1)),
        ({"data": 2, "fsdp": 2, "context": 2, "tensor": -1}, (2, 2, 2, 1)),
        ({"data": 3}, (3, 1, 1, 1)),
    ],
)
def test_one_axis_takes_the_devices_that_the_others_leave(asked, sizes):
    assert mesh_lib.mesh_sizes(MeshConfig(**asked), 8) == dict(zip(mesh_lib.AXES, sizes, strict=True))


class _Device:
    """One of three that each process has, unless `process` says whose it is."""

    platform = device_kind = "cpu"

    def __init__(self, number: int, process: int | None = None) -> None:
        self.id, self.process_index = number, number // 3 if process is None else process


@pytest.mark.parametrize(
    ("axes", "shares"),
    [
        ({"data": 6}, [(0, 2), (1, 2)]),
        ({"context": 6}, [(0, 1), (0, 1)]),
        ({"data": 2, "context": 3}, [(0, 2), (1, 2)]),
        ({"data": 3, "context": 2}, [[0, 1], [1, 2]]),  # the second pair of devices is of both processes
    ],
)
def test_processes_read_equal_shares_of_the_rows_or_are_refused(monkeypatch, axes, shares):
    sizes = [axes.get(name, 1) for name in mesh_lib.AXES]
    devices = np.array([_Device(number) for number in range(6)], object).reshape(sizes)
    layout = Layout(jax.sharding.Mesh(devices, mesh_lib.AXES))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process, share in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        if isinstance(share, tuple):
            assert mesh_lib.host_share(layout) == share
        else:
            with pytest.raises(ValueError, match=re.escape(f"the parts {share} of the 3 parts of a batch: choose")):
                mesh_lib.host_share(layout)


@pytest.mark.parametrize(
    ("owners", "process", "parts"),
    [
        ([0, 1, 0, 1], 0, [0, 2]),  # would read the rows of parts 0 and 1
        ([0, 1, 1, 2], 1, [1, 2]),  # would read those of parts 0 and 1 too
    ],
)
def test_processes_whose_parts_are_no_share_are_refused(monkeypatch, owners, process, parts):
    devices = np.array([_Device(*pair) for pair in enumerate(owners)], object).reshape(4, 1, 1, 1)
    layout = Layout(jax.sharding.Mesh(devices, mesh_lib.AXES))
    monkeypatch.setattr(jax, "process_count", lambda: max(owners) + 1)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    with pytest.raises(ValueError, match=re.escape(f"the parts {parts} of the 4 parts of a batch: choose")):
        mesh_lib.host_share(layout)


def test_eight_devices_split_rows_and_share_parameters():
    run_on_eight_devices("""
        from jaxformer.config import MeshConfig
        from jaxformer.parallel.mesh import first_copy, make_layout, place_batch, replicated

        layout = make_layout(MeshConfig(data=4))
        rows = np.arange(24, dtype=np.float32).reshape(8, 3)
        weight = np.ones((3, 2), np.float32)
        batch, params = place_batch(rows, layout), jax.device_put(weight, replicated(layout.mesh))
        assert len(batch.addressable_shards) == 4
        for index, shard in enumerate(batch.addressable_shards):
            np.testing.assert_array_equal(shard.data, rows[2 * index : 2 * index + 2])
        assert all(shard.data.shape == (3, 2) for shard in params.addressable_shards)
        assert first_copy({"w": params}, layout)["w"].devices() == {jax.devices()[0]}
        # Unannotated products over a sharded axis must work: that is what Auto axes are for.
        gram = jax.jit(lambda x, w: (x @ w).T @ x)(batch, params)
        np.testing.assert_allclose(gram, (rows @ weight).T @ rows)
        try:
            place_batch(rows[:6], layout)
        except ValueError as error:
            assert "divisible" in str(error) or "divide" in str(error), error
        else:
            raise AssertionError("six rows were split over four devices")
    """)
