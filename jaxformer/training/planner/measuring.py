"""How fast the devices that are here compute, read and exchange, measured in a few seconds, all of them at once.

Simulated devices share the cores of one machine, so that a device measured alone would promise too much. Every process
of a run takes part, and all go by what process 0 found. Not for data sheets (`hardware`).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxformer.training.planner.hardware import Hardware

_ROUNDS = 5
_CHAIN = 64
_DTYPES = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16}


def measured(hardware: Hardware, precision: str) -> Hardware:
    """`hardware`, which is here, with measured rates; what cannot be measured keeps its value."""
    found = _measured_rates(precision, hardware.cpu)
    rates = hardware.rates
    new = {"products": found[0], "memory": found[1], "start": found[2]}
    one_host = hardware.per_host >= hardware.count
    if hardware.count > 1 and one_host:
        new |= {"latency": found[3], "link": found[4]}
    said = (
        f"measured here, on all devices at once: {new['products'] / 1e9:,.0f} GFLOP/s of {precision} products and "
        f"{new['memory'] / 1e9:,.1f} GB/s of memory on each"
    )
    if "link" in new:
        said += f", {new['link'] / 1e9:,.2f} GB/s and {1e6 * new['latency']:,.0f} us in an exchange"
    return dataclasses.replace(hardware, rates=dataclasses.replace(rates, **new, source=said))


@functools.cache
def _measured_rates(precision: str, cpu: bool) -> tuple[float, ...]:
    """Products, memory, start, latency, link of each device, as process 0 found them; the last two 0 for one device."""
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("all",), axis_types=(AxisType.Auto,), devices=devices)
    dtype, side, size = _DTYPES[precision], 512 if cpu else 8192, (1 << 20) if cpu else (1 << 26)
    one = functools.partial(_ones, mesh)

    def product(x: jax.Array) -> jax.Array:
        return x @ x

    def update(x: jax.Array) -> jax.Array:  # as optimizers and norms do: some arithmetic, one read and one write
        return x * 0.999 + jax.lax.rsqrt(x * x + 1e-6)

    def chain(x: jax.Array) -> jax.Array:
        for _ in range(_CHAIN):
            x = x @ x  # nothing to fuse
        return x

    small, vector = one((8, 8), jnp.float32), one((size,), jnp.float32)
    rates = [
        2.0 * side**3 / _seconds(mesh, product, one((side, side), dtype)),
        8.0 * size / _seconds(mesh, update, vector),
        _seconds(mesh, chain, small) / _CHAIN,
    ]
    count = len(devices)
    if count > 1:
        total = functools.partial(jax.lax.psum, axis_name="all")
        latency = _seconds(mesh, total, small)
        long = max(_seconds(mesh, total, vector) - latency, 1e-9)
        rates += [latency, 2.0 * (count - 1) / count * 4.0 * size / long]
    else:
        rates += [0.0, 0.0]
    return tuple(_of_first_process(rates))


def _ones(mesh: jax.sharding.Mesh, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Ones of `shape` on every device."""
    whole = (shape[0] * mesh.size, *shape[1:])
    place = NamedSharding(mesh, PartitionSpec("all"))
    return jax.jit(lambda: jnp.full(whole, 1e-3, dtype), out_shardings=place)()


def _seconds(mesh: jax.sharding.Mesh, function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """The shortest of a few calls of `function` on every device's part of `x`; as many in every process."""
    spec = PartitionSpec("all")
    run = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    run(x).block_until_ready()
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return min(times)


def _of_first_process(numbers: list[float]) -> list[float]:
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    return [float(x) for x in multihost_utils.broadcast_one_to_all(np.array(numbers))]
