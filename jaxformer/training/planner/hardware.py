"""The devices that a plan is for, here or not: their memory, and how fast they compute, read and exchange.

Data sheets for accelerators; rates of the past for a CPU. Not for measuring (`measuring`), nor for what a step needs.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from typing import Any

import jax

from jaxformer.config import PlanConfig, nearest
from jaxformer.monitoring.machine import memory as host_memory, usable_cores
from jaxformer.monitoring.peaks import data_sheet_rate, has_bf16, on_record
from jaxformer.parallel.processes import devices_of_hosts, every_ones

_GIB = 1024**3
_DEVICES_PER_HOST = 8

_MOST_DEVICES = 4096
"""That are planned for: their layouts take a minute to judge, and those of more take longer and longer."""

_CPU_RATE = 45e9
"""FLOP/s of one core in training: measured on two cores (`FACTS`: 13,000 tokens/s of the `tiny` shape)."""

_CPU_BANDWIDTH = 5e9
"""Bytes/s of one core: what two cores share of an ordinary memory channel, under elementwise work."""

_REACHED = {"products": 0.8, "memory": 0.9, "links": 0.8}
"""Of a data sheet, what good programs reach: on an H200 790 of 989 TFLOP/s and 4.3 of 4.8 TB/s (`FACTS`)."""

_JAX_SHARE = 0.75
"""Of a GPU's memory, what JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """Bytes of memory, bytes/s of that memory, and bytes/s that a device sends to the others of its host."""

    memory: float
    bandwidth: float
    link: float


_SHEETS = {
    "H200": _Sheet(141e9, 4.8e12, 450e9),
    "H100": _Sheet(80e9, 3.35e12, 450e9),
    "H100 NVL": _Sheet(94e9, 3.9e12, 300e9),
    "H100 PCIe": _Sheet(80e9, 2.0e12, 64e9),
    "GH200": _Sheet(96e9, 4.0e12, 450e9),
    "B200": _Sheet(180e9, 8.0e12, 900e9),
    "A100": _Sheet(80e9, 2.04e12, 300e9),
    "A10G": _Sheet(24e9, 600e9, 32e9),
    "A30": _Sheet(24e9, 933e9, 32e9),
    "A40": _Sheet(48e9, 696e9, 32e9),
    "L40S": _Sheet(48e9, 864e9, 32e9),
    "L40": _Sheet(48e9, 864e9, 32e9),
    "L4": _Sheet(24e9, 300e9, 32e9),
    "V100": _Sheet(32e9, 900e9, 150e9),
    "T4": _Sheet(16e9, 320e9, 16e9),
}
"""From NVIDIA's data sheets, the SXM form where there are several, the larger memory where there are two.

Links are NVLink's in one direction where every device of a host reaches every other by it, and else those of PCIe.
Rates of products are in `monitoring.peaks`, under the same names.
"""


_UNKNOWN = "L40"
"""Whose links a device that is here, but not on record, is taken to have: PCIe. All else of it is measured."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a program reaches on each device.

    Attributes:
      products: FLOP/s of matrix products.
      memory: bytes/s read or written.
      link: bytes/s sent to devices of the same host.
      network: bytes/s sent to devices of other hosts.
      latency: seconds that an exchange takes at least.
      start: seconds that a kernel takes at least.
      source: where the numbers come from, for a person.
    """

    products: float
    memory: float
    link: float
    network: float
    latency: float
    start: float
    source: str


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Devices of one kind.

    Attributes:
      kind: as JAX names it, or the name in the table.
      count: of all hosts together.
      per_host: of a host.
      memory: bytes on each that a step may use.
      memory_source: where that number comes from, for a person.
      rates: of each.
      cpu: whether they are simulated on the cores of this machine.
    """

    kind: str
    count: int
    per_host: int
    memory: float
    memory_source: str
    rates: Rates
    cpu: bool = False

    def describe(self) -> str:
        """The devices in a few words."""
        hosts = -(-self.count // self.per_host)
        return f"{self.count} x {self.kind}" + (f" in {hosts} hosts of {self.per_host}" if hosts > 1 else "")


def hardware_for(plan: PlanConfig, precision: str) -> Hardware:
    """The devices that `plan.devices` names, or those that are here; by their data sheets.

    Raises:
      ValueError: for a text that names no devices, or devices of which nothing is on record.
    """
    if plan.devices:
        count, kind = parse_devices(plan.devices)
        per_host = min(plan.per_host or _usual_host(count), count)
        found = _accelerators(plan, precision, kind, kind, count, per_host)
        sheet = _SHEETS[kind].memory
        share = _jax_share()
        memory, source = sheet * share, f"{share:.0%}, which JAX takes, of the {sheet / 1e9:.0f} GB of its data sheet"
    else:
        devices = jax.devices()
        near, hosts = devices_of_hosts()
        per_host = plan.per_host or math.gcd(*hosts.values())  # of all processes of a host; hosts are alike
        found = _present(plan, precision, devices, min(per_host, len(devices)), near)
        memory, source = found.memory, found.memory_source
    if plan.memory:
        memory, source = plan.memory * _GIB, "plan.memory"
    if found.count % found.per_host:
        raise ValueError(
            f"plan.per_host={found.per_host} does not divide the {found.count} devices: hosts are alike; choose a "
            "divisor"
        )
    source += f", less {plan.reserve:.0%} (plan.reserve)" if plan.reserve else ""
    return dataclasses.replace(found, memory=memory * (1.0 - plan.reserve), memory_source=source)


def _usual_host(count: int) -> int:
    """Devices of a host, of `count` in all: hosts are alike."""
    return max(size for size in range(1, _DEVICES_PER_HOST + 1) if count % size == 0)


def assumed_hosts(plan: PlanConfig) -> str:
    """What hosts `plan.devices` is taken to be in, where it cannot be whole ones and nothing is said; else empty."""
    count = parse_devices(plan.devices)[0] if plan.devices and not plan.per_host else 0
    if count <= _DEVICES_PER_HOST or (size := _usual_host(count)) == _DEVICES_PER_HOST:
        return ""
    return (
        f"plan.devices={plan.devices} do not divide into hosts of {_DEVICES_PER_HOST}: {count // size} hosts of {size} "
        f"are assumed. Set --config.plan.per_host to what a host has, or name a multiple of {_DEVICES_PER_HOST} devices"
    )


def parse_devices(text: str) -> tuple[int, str]:
    """`8xH200` as (8, "H200").

    Raises:
      ValueError: for a text of another form, a device that is not on record, or more devices than are planned for.
    """
    match = re.fullmatch(r"\s*(\d+)\s*[xX*]\s*(\S.*?)\s*", text)
    if not match or not int(match[1]):
        raise ValueError(f"plan.devices={text!r} is not COUNTxDEVICE, such as 8xH200")
    names = {name.lower(): name for name in _SHEETS}
    if match[2].lower() not in names:
        known = on_record(match[2])
        near = nearest(known or match[2], _SHEETS)
        if known:
            near += f" That has {_SHEETS[known].memory / 1e9:.0f} GB; set --config.plan.memory for others."
        raise ValueError(f"plan.devices={text!r}: nothing is on record of {match[2]!r}: {near}")
    if int(match[1]) > _MOST_DEVICES:
        raise ValueError(
            f"plan.devices={text!r} are more than the {_MOST_DEVICES:,} devices that are planned for: name no more"
        )
    return int(match[1]), names[match[2].lower()]


def _accelerators(plan: PlanConfig, precision: str, kind: str, record: str, count: int, per_host: int) -> Hardware:
    """Devices by the data sheet of `record`."""
    sheet, products = _SHEETS[record], data_sheet_rate(record, precision)
    units = " (no units for bf16)" if precision == "bf16" and not has_bf16(record) else ""
    rates = Rates(
        products=_REACHED["products"] * products,
        memory=_REACHED["memory"] * sheet.bandwidth,
        link=_REACHED["links"] * sheet.link,
        network=_REACHED["links"] * plan.network * 1e9 / 8,
        latency=2e-5,
        start=4e-6,
        source=(
            f"data sheet: {products / 1e12:,.0f} TFLOP/s{units}, {sheet.bandwidth / 1e12:.2f} TB/s, "
            f"{sheet.link / 1e9:.0f} GB/s to its host's, {plan.network / 8:.0f} GB/s to other hosts' devices; of which "
            + ", ".join(f"{share:.0%} ({name})" for name, share in _REACHED.items())
        ),
    )
    return Hardware(kind, count, per_host, sheet.memory, "its data sheet", rates)


def _on_record(kind: str) -> str:
    """The name of the table that `kind` has among its words."""
    if not (name := on_record(kind)):
        raise ValueError(
            f"nothing is on record of the device {kind!r}: plan for one that is, with --config.plan.devices="
            f"COUNTxDEVICE; {nearest(kind, _SHEETS)}"
        )
    return name


def agreed(found: Hardware) -> Hardware:
    """The same in every process: that of process 0, with the least memory that any of them found."""
    every = [Hardware(**{**one, "rates": Rates(**one["rates"])}) for one in every_ones(dataclasses.asdict(found))]
    least = min(every, key=lambda one: one.memory)
    return dataclasses.replace(every[0], memory=least.memory, memory_source=least.memory_source)


def _jax_share() -> float:
    """Of a GPU's memory, what JAX will take."""
    text = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "") or str(_JAX_SHARE)
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={text!r} in the environment is no share of a GPU's memory: set it to a "
            "number above 0 and at most 1, such as 0.9, or unset it"
        )
    return share


def _present(plan: PlanConfig, precision: str, devices: list[Any], per_host: int, near: int) -> Hardware:
    """The devices that are here, `near` of them on this host, whose cores and memory they share if it simulates them.

    A GPU's memory is its own, and belongs to one process.
    """
    kind, count = str(devices[0].device_kind), len(devices)
    own = [device for device in devices if device.process_index == jax.process_index()]
    if devices[0].platform != "cpu":
        limit = int((own[0].memory_stats() or {}).get("bytes_limit", 0))
        try:
            record = _on_record(kind)
        except ValueError:
            if not (limit and plan.measure):
                raise
            record = _UNKNOWN
        found = _accelerators(plan, precision, kind, record, count, per_host)
        return dataclasses.replace(found, memory=limit, memory_source="what JAX has taken") if limit else found
    share = usable_cores() / near
    rates = Rates(
        products=_CPU_RATE * share,
        memory=_CPU_BANDWIDTH * share,
        link=_CPU_BANDWIDTH * share / 2,
        network=plan.network * 1e9 / 8,
        latency=1e-4,
        start=1e-5,
        source=f"{usable_cores()} cores at {_CPU_RATE / 1e9:.0f} GFLOP/s each, as measured once",
    )
    source = "the free memory of this host" + (", shared by its devices" if near > 1 else "")
    return Hardware(kind, count, per_host, host_memory()[1] / near, source, rates, cpu=True)
