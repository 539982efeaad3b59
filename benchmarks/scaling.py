"""What 8, 64 or 512 H200s would exchange in a training step, and how well they would scale: on paper, by formula.

    python -m benchmarks.scaling [--devices=8,64,512] [--slots=8192] [--batch=409600] [--mfu=0.4] [--reached=0.8]

Nothing is run or compiled and no device is needed: the counts are those of `jaxformer.parallel.traffic`, to which
`tests/parallel/test_layouts.py` holds compiled steps. docs/scaling.md holds the output and what it means. Assumed, not
measured: the rates below, the share of them that exchanges reach, and the MFU of a device that exchanges nothing.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

from jax.sharding import AbstractMesh, AxisType

import experiments
from benchmarks import report
from jaxformer.config import Config, replace
from jaxformer.monitoring.flops import training_flops
from jaxformer.monitoring.peaks import data_sheet_rate
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import AXES
from jaxformer.parallel.traffic import Exchange, Step, exchanges, parts_of
from jaxformer.tasks.translation import TranslationTask

DEVICE, PER_HOST = "NVIDIA H200", 8
NVLINK = 450e9  # bytes/s that a GPU sends to those of its host: 900 GB/s, both directions together
NETWORK = 50e9  # bytes/s that a GPU sends to other hosts, through a card of its own: 400 Gb/s
LATENCY = 20e-6  # seconds that an exchange takes at least
LENGTH = 128  # slots of a row on each side, as in `wmt:big`
BEHIND_WORK = ("gradients", "parameters")  # these wait for no activation, and no activation for them
MEGABYTE = 1e6

BIG = replace(experiments.find("wmt").config("big"), {"model.max_length": LENGTH})
MODELS = {
    "big": BIG,
    "1B": replace(
        BIG,
        {"model": {"d_model": 2048, "d_ff": 8192, "num_heads": 16, "num_encoder_layers": 8, "num_decoder_layers": 8}},
    ),
}


class Vocabulary:
    """Its size alone; Vaswani et al. 2017 give one for both languages."""

    def __init__(self, config: Config) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = config.data.vocabulary_size


class Prediction(NamedTuple):
    """A step on each device: bytes sent, and seconds.

    Attributes:
      within, across: bytes that go to devices of the same host, and to other hosts.
      work: seconds of matrix products at the assumed MFU.
      hidden: seconds of exchanges that may go on beside them.
      waiting: seconds of exchanges that the next product waits for.
    """

    within: float
    across: float
    work: float
    hidden: float
    waiting: float

    @property
    def at_worst(self) -> float:
        """Efficiency when nothing goes on beside anything."""
        return self.work / (self.work + self.hidden + self.waiting)

    @property
    def at_best(self) -> float:
        """Efficiency when what may be hidden is hidden behind the backward pass, two thirds of the work."""
        return self.work / (max(self.work, self.work / 3 + self.hidden) + self.waiting)


def stages(one: Exchange, layout: Layout) -> tuple[float, float, float]:
    """Bytes that a device sends within its host and between hosts for `one`, and seconds but for the rates' share.

    In two stages: within hosts of the whole arrays, between hosts each of a host's m devices a m-th part of them.
    """
    sizes, inside, hosts, stride = layout.mesh.shape, 1, 1, 1
    for axis in reversed(AXES):  # the last axis is the nearest
        if axis in one.axes:
            near = math.gcd(sizes[axis], max(1, PER_HOST // stride))
            inside, hosts = inside * near, hosts * sizes[axis] // near
        stride *= sizes[axis]
    times = 2 if one.kind == "all-reduce" else 1
    within = times * (inside - 1) / inside * one.bytes
    across = times * (hosts - 1) / hosts * one.bytes / (1 if one.kind == "all-to-all" else inside)
    return within, across, within / NVLINK + across / NETWORK


def predict(
    config: Config, task: TranslationTask, sizes: dict[str, int], slots: int, options: argparse.Namespace
) -> Prediction:
    """A step of `slots` slots a side on each device."""
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    layout = Layout(AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES)))  # type: ignore[arg-type]
    shared = sizes.get("tensor", 1) * sizes.get("context", 1)  # devices that have the same rows
    rows, length = slots * shared // LENGTH, LENGTH // sizes.get("context", 1)
    itemsize = 2 if config.precision == "bf16" else 4
    parts, step = parts_of(layout, task.abstract_params()), Step(config.model, itemsize)
    found = exchanges(layout, parts, step, (rows, length, length))
    flops = training_flops(config.model, config.data.vocabulary_size, rows, LENGTH, LENGTH) / shared
    within = across = 0.0
    seconds = {True: 0.0, False: 0.0}
    for one in found:
        near, far, time = stages(one, layout)
        within, across = within + near, across + far
        seconds[one.what in BEHIND_WORK] += time / options.reached + one.count * LATENCY
    work = flops / (options.mfu * data_sheet_rate(DEVICE, config.precision))
    return Prediction(within, across, work, seconds[True], seconds[False])


def whole_hosts(text: str) -> list[int]:
    """The type of the flag that names numbers of devices: each must fill its hosts."""
    for number in (found := report.positives(text)):
        if number % PER_HOST:
            raise argparse.ArgumentTypeError(f"{number} devices do not fill hosts of {PER_HOST}: name a multiple of it")
    return found


def layouts(devices: int) -> list[dict[str, int]]:
    """Those worth a look for so many devices."""
    hosts = devices // PER_HOST
    mixed = [{"data": hosts, "fsdp": PER_HOST}] if hosts > 1 else []
    halves = [{"data": devices // 2, "tensor": 2}, {"data": devices // 2, "context": 2}]
    return [{"data": devices}, *mixed, {"fsdp": devices}, *halves]


def described(sizes: dict[str, int]) -> str:
    """`data=8, fsdp=8`."""
    return ", ".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1)


def row(name: str, devices: int, sizes: dict[str, int], slots: int, found: Prediction) -> list[str]:
    """A line of a table."""
    sent = [f"{number / MEGABYTE:,.0f}" for number in (found.within, found.across)]
    times = [f"{1e3 * seconds:,.1f}" for seconds in (found.work, found.hidden, found.waiting)]
    return [name, f"{devices}", described(sizes), f"{slots:,}", *sent, *times, f"{found.at_worst:.0%}",
            f"{found.at_best:.0%}"]  # fmt: skip


HEAD = [
    "model", "H200s", "mesh", "slots a side, each", "MB sent in the host", "MB to others", "work ms", "beside it ms",
    "waited for ms", "efficiency, nothing overlapped", "overlapped",
]  # fmt: skip


def main() -> None:
    """Computes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=whole_hosts, default="8,64,512", help="how many, each a multiple of 8")
    parser.add_argument("--slots", type=report.positive, default=8192, help="a side on each device, where work grows")
    parser.add_argument("--batch", type=report.positive, default=409_600, help="slots a side of all, where it stays")
    parser.add_argument("--mfu", type=report.share, default=0.4, help="of a device that exchanges nothing")
    parser.add_argument("--reached", type=report.share, default=0.8, help="of the rates of links, by exchanges")
    report.add_json_flag(parser)
    options = parser.parse_args()
    growing, fixed, figures = [], [], []
    for name, config in MODELS.items():
        task = TranslationTask(config, Vocabulary(config))  # type: ignore[arg-type]
        print(f"{name}: {task.num_parameters:,} parameters", flush=True)
        for devices in options.devices:
            for sizes in layouts(devices):
                found = predict(config, task, sizes, options.slots, options)
                growing.append(row(name, devices, sizes, options.slots, found))
                label = f"{name} on {devices}: {described(sizes)}"
                figures.append({"name": label, "value": found.at_best, "unit": "efficiency", **found._asdict()})
            slots, sizes = options.batch // devices, {"data": devices}
            fixed.append(row(name, devices, sizes, slots, predict(config, task, sizes, slots, options)))
    print(f"\nwork grows with the devices\n\n{report.table(HEAD, growing)}")
    print(f"\none batch of {options.batch:,} slots a side for all\n\n{report.table(HEAD, fixed)}")
    report.write_json(options.json, figures, "jax")


if __name__ == "__main__":
    main()
