"""All ways to train that a plan looks at: meshes, micro-batches, rematerialisation.

Not for what rules some of them out, nor for their order (`choice`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from jaxformer.config import Config
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.share import Candidate

REMAT = ("none", "dots", "full", "offload")
"""Simplest first."""


def candidates(config: Config, hardware: Hardware) -> Iterator[list[Candidate]]:
    """All, those of a mesh together."""
    data = config.data
    rows = data.batch_tokens // data.longest_row
    # Where the batch is to be found, any would fit in small enough parts: that of one pass is asked for.
    counts = sorted({1, *(1 << power for power in range(11)), config.memory.accumulate}) if rows else [1]
    remat = [kind for kind in REMAT if not (hardware.cpu and kind == "offload")]
    if hardware.cpu and not config.model.scan_layers:
        remat = [config.memory.remat]  # XLA's CPU backend undoes the others
    for sizes in meshes(hardware.count):
        mesh = dict(zip(("data", "fsdp", "tensor", "context"), sizes, strict=True))
        parts = mesh["data"] * mesh["fsdp"]
        possible = [count for count in counts if count == 1 or count * parts <= rows]
        yield [Candidate(**mesh, accumulate=count, remat=kind) for count, kind in itertools.product(possible, remat)]


def meshes(count: int) -> Iterator[tuple[int, int, int, int]]:
    """All ways to write `count` as a product of four."""
    divisors = [number for number in range(1, count + 1) if count % number == 0]
    for data, fsdp, tensor in itertools.product(divisors, repeat=3):
        if count % (data * fsdp * tensor) == 0:
            yield data, fsdp, tensor, count // (data * fsdp * tensor)
