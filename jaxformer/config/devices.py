"""How the devices are used: what is traded for memory, how they are laid out, what the planner assumes of them.

Not for batches (`data`).
"""

from __future__ import annotations

import dataclasses

from jaxformer.config.checks import check_choice, check_fraction, check_not_negative, check_positive, check_types


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """What is traded for memory.

    Attributes:
      accumulate: micro-batches per optimizer step; each holds `data.batch_tokens / accumulate` slots a side.
      remat: what a layer's backward pass computes again instead of keeping: `none`; `dots` (all but the results of
        products with parameters); `full` (everything inside a layer); `offload` (as `dots`, and what is kept waits in
        host memory). The result is the same. On a CPU it saves memory with `model.scan_layers` alone.
    """

    accumulate: int = 1
    remat: str = "none"

    def __post_init__(self) -> None:
        check_types("memory", self)
        check_positive("memory", self, "accumulate")
        check_choice("memory.remat", self.remat, "none", "dots", "full", "offload")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out: the product of the four is the number of devices used; one may be -1, for the rest.

    Attributes:
      auto: the planner chooses the four sizes, `memory.accumulate` and `memory.remat`, whatever they are here; the
        choice is written to `config.json`. `--config.mesh=auto` says the same.
      data: devices that split the rows of a batch.
      fsdp: devices that split the rows, and keep a part of every matrix and of what the optimizer knows about it.
      tensor: devices that split heads, feed-forward layers and the vocabulary; for networks that are large.
      context: devices that split sequences; for those that are long. Where `tensor` x `context` does not divide the
        (key/value) heads, every device gathers keys and values, which sends more.
    """

    auto: bool = False
    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        check_types("mesh", self)
        sizes = {name: getattr(self, name) for name in ("data", "fsdp", "tensor", "context")}
        for name, size in sizes.items():
            if size != -1:
                check_positive("mesh", self, name)
        rest = [f"mesh.{name}" for name, size in sizes.items() if size == -1]
        if len(rest) > 1:
            raise ValueError(f"{' and '.join(rest)} are -1, which stands for the rest of the devices: only one may be")


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """What the planner assumes of the hardware: `--mode=plan`, `mesh.auto` and `data.batch_tokens=0` ask it.

    Attributes:
      devices: hardware to plan for that need not be here, such as `8xH200`, of at most 4,096 devices; empty for the
        devices that are here.
      per_host: devices of a host, which its fast links join; 0 for 8, or the most below that divide the devices, or as
        many as a host here has.
      network: of the adapter of each device to other hosts, in Gb/s.
      memory: of each device that a step may use, in GiB; 0 for what the backend or the data sheet says.
      reserve: part of that memory which is left free, for what a compiled program does not count.
      measure: time products, memory and exchanges of the devices that are here, a few seconds; false uses their data
        sheet, and for a CPU rates of the past.
    """

    devices: str = ""
    per_host: int = 0
    network: float = 400.0
    memory: float = 0.0
    reserve: float = 0.1
    measure: bool = True

    def __post_init__(self) -> None:
        check_types("plan", self)
        check_not_negative("plan", self, "per_host", "memory")
        check_positive("plan", self, "network")
        check_fraction("plan", self, "reserve")
