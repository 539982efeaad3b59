"""What one device has of a step under a candidate layout: of the batch, of the parameters, of the state.

No devices are needed: the layout lies on an abstract mesh, and is asked the same questions as a real one. Not for what
all that costs (`footprint`, `roofline`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType

from jaxformer.config import Config, MeshConfig
from jaxformer.data.bucketing import round_up, rows_within
from jaxformer.data.packing import packed_rows
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import AXES, mesh_sizes
from jaxformer.parallel.traffic import Part, parts_of
from jaxformer.tasks.task import Task, check_divides
from jaxformer.training.optimizer import make_optimizer
from jaxformer.training.planner.network import Network, network_of
from jaxformer.training.state import create_state

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A layout that might be chosen: devices along each axis, micro-batches, and what is computed again."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    accumulate: int = 1
    remat: str = "none"

    @classmethod
    def asked_for(cls, config: Config, count: int) -> Candidate:
        """The one that `config` asks for where there are `count` devices; `ValueError` if there are too few."""
        memory = config.memory
        return cls(**mesh_sizes(config.mesh, count), accumulate=memory.accumulate, remat=memory.remat)

    @property
    def sizes(self) -> dict[str, int]:
        """Devices along each axis, outermost first."""
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def mesh(self) -> MeshConfig:
        """As a setting."""
        return MeshConfig(data=self.data, fsdp=self.fsdp, tensor=self.tensor, context=self.context)

    @property
    def devices(self) -> int:
        """How many it takes."""
        return math.prod(self.sizes.values())

    def changes(self) -> dict[str, Any]:
        """What a configuration that is to use it must say."""
        sizes = {f"mesh.{axis}": size for axis, size in self.sizes.items()}
        return {"mesh.auto": False, **sizes, "memory.accumulate": self.accumulate, "memory.remat": self.remat}

    def layout(self) -> Layout:
        """On devices that need not be there."""
        return abstract_layout(self.data, self.fsdp, self.context, self.tensor)

    def describe(self) -> str:
        """The axes of more than one device."""
        return ", ".join(f"{axis}={size}" for axis, size in self.sizes.items() if size > 1) or "data=1"

    @property
    def in_words(self) -> str:
        """Those, the micro-batches, and what is computed again."""
        words = [self.describe(), f"{self.accumulate} micro-batch{'es' if self.accumulate > 1 else ''}"]
        return ", ".join([*words, *([f"remat {self.remat}"] if self.remat != "none" else [])])


def abstract_layout(*sizes: int) -> Layout:
    """The one table on a mesh of these sizes, in the order of `AXES`."""
    return Layout(AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES)))  # type: ignore[arg-type]


class Held(NamedTuple):
    """Bytes of the state on each device."""

    parameters: int
    average: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class Model:
    """The parameters and the state of a configuration by their shapes, traced once for all candidates.

    Args:
      config: of the run.
      task: with its parameters.
    """

    def __init__(self, config: Config, task: Task[Any]) -> None:
        self.config, self.task = config, task
        self.network = network_of(task)
        optimizer = make_optimizer(config.optimizer, config.training.num_steps)
        ema, scaled = config.training.ema_decay > 0, config.precision == "fp16"
        self._params = task.abstract_params()
        self._state = jax.eval_shape(
            lambda p: create_state(p, optimizer, seed=0, ema=ema, loss_scale=scaled), self._params
        )

    def check(self, layout: Layout) -> None:
        """Refuses a layout over which heads, parameters or sequences do not divide, as training would: `ValueError`."""
        check_divides(self.config.model, layout, self._params)
        self.network.check(layout)

    def held(self, layout: Layout) -> Held:
        """The state on each device."""
        places = layout.shardings(self._state)

        def size(tree: Any, where: Any) -> int:
            leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(where), strict=True)
            return sum(
                math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, place in leaves
                if leaf.dtype.itemsize
            )  # fmt: skip

        parts = [(getattr(self._state, name), getattr(places, name)) for name in ("params", "ema", "opt_state")]
        return Held(*(size(*part) for part in parts))

    def parameters(self, layout: Layout) -> tuple[Part, ...]:
        """Every parameter with its share."""
        return tuple(parts_of(layout, self._params))


@dataclasses.dataclass(frozen=True)
class Share:
    """What a device does of a step.

    Attributes:
      config: of the run, with the candidate's settings.
      network: that is trained.
      candidate: the layout.
      batch: rows, source and target slots of the whole batch; an encoder has no target slots.
      rows: of a micro-batch on the device, those of a second pass included.
      source, target: slots of a row on the device.
      heads: that it attends with.
      gathers_keys: whether it attends from its own positions to keys and values that it gathers, rather than from all
        positions with a part of the heads; see `Layout.exchanges_heads`.
      vocabulary: target pieces whose logits it makes; 0 for none.
      held: bytes of state.
      parameters: on the device.
      bytes: of an activation.
      device: its kind, which decides how attention is computed; empty for the one that is here.
    """

    config: Config
    network: Network
    candidate: Candidate
    batch: tuple[int, int, int]
    rows: int
    source: int
    target: int
    heads: int
    gathers_keys: bool
    vocabulary: int
    held: Held
    parameters: tuple[Part, ...]
    bytes: int
    device: str = ""

    @property
    def slots(self) -> int:
        """Of the whole batch: target slots, or those of the only side, without what lengths were rounded up by."""
        rows, *sides = self.batch
        source, target = (min(length, self.config.data.longest_row) for length in sides)
        return self.network.slots((rows, source, target))

    @property
    def used(self) -> int:
        """Parameters that the device needs to compute, in numbers."""
        return sum(parameter.used for parameter in self.parameters)

    @property
    def stored(self) -> int:
        """Parameters that lie on it."""
        return sum(parameter.stored for parameter in self.parameters)

    @property
    def tables(self) -> int:
        """Numbers that it needs of the embedding and output tables that are split for storage."""
        return sum(one.used for one in self.parameters if one.axes and not one.of_layer)


def share_of(model: Model, candidate: Candidate, layout: Layout, held: Held, parameters: tuple[Part, ...]) -> Share:
    """The share under `candidate`; `layout`, `held` and `parameters` are those of its mesh.

    Raises:
      ValueError: if batch or row lengths do not divide.
    """
    config = model.config
    rows, length = batch_shape(config, layout.parts("rows") * candidate.accumulate, layout.parts("length"))
    return share_on(model, candidate, layout, held, parameters, (rows, length, model.network.target_slots(length)))


def share_on(
    model: Model,
    candidate: Candidate,
    layout: Layout,
    held: Held,
    parameters: tuple[Part, ...],
    batch: tuple[int, int, int],
) -> Share:
    """The same for a batch of a given shape, which must divide."""
    config, parts = model.config, layout.parts("length")
    num_heads = config.model.num_heads
    gathers = not layout.exchanges_heads(config.model.num_kv_heads or num_heads)
    return Share(
        config=config,
        network=model.network,
        candidate=candidate,
        batch=batch,
        rows=batch[0] // (layout.parts("rows") * candidate.accumulate) * config.training.passes,
        source=batch[1] // parts,
        target=batch[2] // parts,
        heads=num_heads // (layout.parts("heads") * (1 if gathers else parts)),
        gathers_keys=gathers,
        vocabulary=model.network.vocabulary // layout.parts("vocabulary"),
        held=held,
        parameters=parameters,
        bytes=_BYTES[config.precision],
    )


def batch_shape(config: Config, divisor: int, length_divisor: int = 1) -> tuple[int, int]:
    """Rows and slots, of either side, of the batch with the longest rows.

    Args:
      config: of the run.
      divisor: what rows are a multiple of: their parts, times micro-batches.
      length_divisor: what lengths are a multiple of.

    Raises:
      ValueError: if `data.batch_tokens` makes no such batch, with the nearest that does.
    """
    data = config.data
    if data.batching == "pack":
        rows, length = packed_rows(data, divisor)
        if length % length_divisor:
            raise ValueError(f"data.pack_length={length} does not divide into {length_divisor} parts (mesh.context)")
        return rows, length
    length = round_up(data.longest_row, length_divisor)
    divisor = data.row_divisor(divisor)
    rows = rows_within(data.batch_tokens // length, data.batch_rows, divisor)
    if not rows:
        raise ValueError(
            f"data.batch_tokens={data.batch_tokens} does not hold {divisor} rows of {length} tokens, a "
            f"multiple of devices times micro-batches, and of data.row_multiple={data.row_multiple}: raise "
            f"--config.data.batch_tokens to {divisor * length} or more"
        )
    return rows, length
