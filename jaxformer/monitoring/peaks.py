"""How fast the devices of a run could multiply matrices: the denominator of model FLOPs utilisation (MFU).

Accelerators by their data sheets, a CPU by measurement. Not for counting what a step needs (`monitoring.flops`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from typing import Any

_PEAKS = {
    "H200": (989e12, 494.5e12),
    "H100 PCIe": (756e12, 378e12),
    "H100 NVL": (835e12, 417.5e12),
    "H100": (989e12, 494.5e12),
    "GH200": (989e12, 494.5e12),
    "B200": (2250e12, 1125e12),
    "A100": (312e12, 156e12),
    "A10G": (70e12, 35e12),
    "A30": (165e12, 82e12),
    "A40": (149.7e12, 74.8e12),
    "L40S": (362e12, 183e12),
    "L40": (181e12, 90.5e12),
    "L4": (121e12, 60e12),
    "V100": (125e12, 15.7e12),
    "T4": (65e12, 8.1e12),
}
"""Device -> FLOP/s of dense products, with fp16 or bf16 inputs and with fp32 ones (TF32 where there is such a unit).

From NVIDIA's data sheets, SXM form where there are several, without sparsity. The longest name that a device's kind
has among its words is taken.
"""

_NO_BF16 = ("V100", "T4")
"""Devices whose units for matrices take fp16 alone: bf16, to which NVIDIA's came with the A100, is as slow as fp32."""

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_SIZE = 1024
_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Peak:
    """The rate of matrix products.

    Attributes:
      rate: FLOP/s of all devices together; 0 where it is not known.
      source: where the number comes from, for a person.
    """

    rate: float
    source: str


def mesh_peak(precision: str, mesh: Any) -> Peak:
    """The peak of all devices of a mesh, each process having like ones; see `product_peak`."""
    own = product_peak(precision, tuple(mesh.local_devices))
    processes = len({device.process_index for device in mesh.devices.flat})
    if processes == 1:
        return own
    return Peak(own.rate * processes, f"in each of {processes} processes {own.source}")


@functools.cache
def product_peak(precision: str, devices: tuple[Any, ...]) -> Peak:
    """The peak of `devices` together in `precision`: `fp32`, `bf16` or `fp16`."""
    if devices[0].platform == "cpu":
        rate = measured_rate(_DTYPES[precision])
        return Peak(rate, f"measured here with {_DTYPES[precision]} products of {_SIZE} x {_SIZE} matrices")
    kind = str(devices[0].device_kind)
    if not (each := data_sheet_rate(kind, precision)):
        return Peak(0.0, f"the peak of {kind} is not on record")
    return Peak(each * len(devices), f"{len(devices)} x {kind}, {each / 1e12:,.0f} TFLOP/s each by its data sheet")


def data_sheet_rate(kind: str, precision: str) -> float:
    """FLOP/s of one device of `kind`, as JAX names it; 0.0 where it is not on record."""
    half, single = _PEAKS.get(on_record(kind), (0.0, 0.0))
    return single if precision == "fp32" or (precision == "bf16" and not has_bf16(kind)) else half


def has_bf16(kind: str) -> bool:
    """Whether a device of `kind` multiplies bf16 faster than fp32; taken to be so where it is not on record."""
    return on_record(kind) not in _NO_BF16


def on_record(kind: str) -> str:
    """The longest name on record among the words of `kind`, in capitals or not; empty if there is none."""
    names = [name for name in _PEAKS if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", kind, re.IGNORECASE)]
    return max(names, key=len, default="")


def measured_rate(dtype: str) -> float:
    """FLOP/s of products of square matrices on the default device: the best of those that fit into 0.3 seconds."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((_SIZE, _SIZE), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    shortest, end = float("inf"), time.perf_counter() + _SECONDS
    while shortest == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        shortest = min(shortest, time.perf_counter() - start)
    return 2.0 * _SIZE**3 / shortest
