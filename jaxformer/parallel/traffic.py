"""What travels between devices in a training step, by formula: which arrays, along which axes, how often, how large.

Pure arithmetic on a layout, which may lie on devices that are not there (`jax.sharding.AbstractMesh`);
`tests/parallel/test_layouts.py` and `test_encoder_traffic.py` hold compiled steps to it. Not for how long it takes
(`training.planner.exchanges`), and not for what is small: ids, single columns and rows of numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxformer.config import ModelConfig
from jaxformer.parallel.layout import Layout, map_variables

_FLOAT32 = 4  # bytes; gradients are summed in it whatever the precision

_OUTSIDE_LAYERS = frozenset({"vocabulary", "neighbours", "position", "channels", "outputs"})
"""Dimensions of matrices that are used once in a pass, and kept from then on: of embeddings, outputs and heads."""


class Part(NamedTuple):
    """One parameter as a device has it.

    Attributes:
      dims: names of its dimensions.
      used: numbers that the device needs of it when it computes.
      stored: numbers that lie there between uses.
      axes: that split it for storage alone.
    """

    dims: tuple[str, ...]
    used: int
    stored: int
    axes: tuple[str, ...]

    @property
    def matrix(self) -> bool:
        """Whether it has two dimensions, and so may be split for storage."""
        return len(self.dims) > 1

    @property
    def of_layer(self) -> bool:
        """Whether it is a matrix of a layer, which the backward pass gathers again."""
        return self.matrix and not _OUTSIDE_LAYERS & {*self.dims}


def parts_of(layout: Layout, params: Any) -> list[Part]:
    """Every parameter of `params`, a tree of variables with `dims` and of whole shapes; they may be abstract."""
    found: list[Part] = []

    def add(leaf: Any, dims: tuple[str, ...]) -> None:
        used = leaf.size // math.prod(layout.mesh.shape[axis] for dim in dims for axis in layout.axes_in_use(dim))
        axes = tuple(axis for dim in dims for axis in layout.stored_axes(dim, dims))
        found.append(Part(dims, used, used // math.prod(layout.mesh.shape[axis] for axis in axes), axes))

    map_variables(add, params)
    return found


@dataclasses.dataclass(frozen=True)
class Exchange:
    """All exchanges of one kind in a step.

    Attributes:
      what: travels, for a person.
      kind: as HLO calls it: `all-reduce`, `all-gather`, `reduce-scatter` or `all-to-all`.
      axes: of the mesh; the devices along them exchange.
      elements: of the arrays on one device, added up: before a reduction, after a gathering, of what is exchanged.
      itemsize: bytes of an element.
      count: how many arrays these are.
    """

    what: str
    kind: str
    axes: tuple[str, ...]
    elements: int
    itemsize: int
    count: int

    @property
    def bytes(self) -> int:
        """Of the arrays on one device."""
        return self.elements * self.itemsize

    def sent(self, layout: Layout) -> float:
        """Bytes that each device sends at least: (n - 1) / n of the arrays, twice that to reduce and give back.

        Thakur, Rabenseifner and Gropp 2005, section 4; rings reach it.
        """
        devices = math.prod(layout.mesh.shape[axis] for axis in self.axes)
        return (2 if self.kind == "all-reduce" else 1) * (devices - 1) / devices * self.bytes


@dataclasses.dataclass(frozen=True)
class Step:
    """What is exchanged in, besides the layout and the parameters.

    Attributes:
      model: sizes.
      itemsize: bytes of a number in the precision of activations and of parameters in use.
      accumulate: micro-batches.
      remat: what the backward pass computes again; see `MemoryConfig`. What it computes again it exchanges again, but
        for the last sum of a layer, which nothing but the next layer needs, unless a norm follows it.
    """

    model: ModelConfig
    itemsize: int
    accumulate: int = 1
    remat: str = "none"

    def sums(self, sub_layers: int) -> int:
        """Sums of activations that a layer of so many sub-layers makes: forward, again where it must, and backward."""
        again = sub_layers - (self.model.norm_position == "pre") if self.remat != "none" else 0
        return 2 * sub_layers + again

    @property
    def turns(self) -> int:
        """How often attention exchanges something: forward, again where it is computed again, and backward."""
        return 2 if self.remat == "none" else 3


def exchanges(layout: Layout, parts: Sequence[Part], step: Step, shape: tuple[int, int, int]) -> list[Exchange]:
    """Every exchange of a training step of an encoder-decoder.

    Args:
      layout: of the devices.
      parts: of its parameters, by `parts_of`.
      step: the rest.
      shape: (rows, source slots, target slots) that a device has of a micro-batch.
    """
    (rows, source, target), model, width = shape, step.model, step.model.d_model
    # Both embeddings; two sub-layers of the encoder and three of the decoder, of which attention to the source enters
    # twice, once for each side.
    of_source = 1 + model.num_encoder_layers * step.sums(2) + model.num_decoder_layers
    of_target = 1 + model.num_decoder_layers * step.sums(3)
    encoder, decoder = model.num_encoder_layers, model.num_decoder_layers
    queries, keys = encoder * source + 2 * decoder * target, (encoder + decoder) * source + decoder * target
    split = layout.axes_in_use("heads")
    return _worth_counting(
        *_of_parameters(layout, parts, step),
        _sums(split, step, rows * width * (of_source * source + of_target * target), of_source + of_target),
        # The cross-entropy leaves it in float32.
        Exchange("gradient of the output", "all-reduce", split, step.accumulate * rows * width * target, _FLOAT32,
                 step.accumulate),
        *_between_positions(layout, step, (rows * queries, rows * keys), encoder + 2 * decoder),
    )  # fmt: skip


def encoder_exchanges(
    layout: Layout,
    parts: Sequence[Part],
    step: Step,
    shape: tuple[int, int],
    *,
    tokens: bool = True,
    pooled: int = 0,
    forecast: int = 0,
    members: int = 1,
) -> list[Exchange]:
    """Every exchange of a training step of an encoder with heads.

    Args:
      layout, parts, step: as of `exchanges`.
      shape: (rows, slots) that a device has of a micro-batch.
      tokens: whether it reads tokens, whose table may be split, rather than numbers.
      pooled: numbers that heads pool of a row: D for each head and each sequence that a row may hold, and the C of an
        input where a head maps these as well.
      forecast: numbers that heads forecast of a row, from all of its positions together.
      members: encoders of an ensemble.
    """
    (rows, slots), model = shape, step.model
    layers = members * model.num_encoder_layers
    count = members * tokens + layers * step.sums(2)
    positions = rows * layers * slots
    over = layout.axes("length")
    sums = 2 * step.accumulate  # there, and back for their gradients
    return _worth_counting(
        *_of_parameters(layout, parts, step),
        _sums(layout.axes_in_use("heads"), step, rows * model.d_model * count * slots, count),
        *_between_positions(layout, step, (positions, positions), layers),
        Exchange("pooled rows", "all-reduce", over, sums * rows * pooled, _FLOAT32, sums),
        Exchange("forecasts", "all-reduce", over, sums * rows * forecast, step.itemsize, sums),
    )  # fmt: skip


def _worth_counting(*found: Exchange) -> list[Exchange]:
    return [exchange for exchange in found if exchange.axes and exchange.elements]


def _of_parameters(layout: Layout, parts: Sequence[Part], step: Step) -> list[Exchange]:
    """Each gradient is summed once over devices with other rows or positions, in a step; see also `_stored`."""
    summed: dict[tuple[str, ...], list[int]] = {}
    for part in parts:
        rest = tuple(axis for axis in layout.batch_axes if axis not in part.axes)
        summed.setdefault(rest, []).append(part.stored)
    gradients = [
        Exchange("gradients", "all-reduce", axes, sum(sizes), _FLOAT32, len(sizes)) for axes, sizes in summed.items()
    ]
    return gradients + _together([one for part in parts if part.axes for one in _stored(part, step)])


def _stored(part: Part, step: Step) -> list[Exchange]:
    """A matrix that is stored in parts is gathered for use, in layers once more for the backward pass.

    Others are gathered once; every gradient is scattered once. All of that in each micro-batch.
    """
    times = step.accumulate * (2 if part.of_layer else 1)
    return [
        Exchange("parameters", "all-gather", part.axes, times * part.used, step.itemsize, times),
        Exchange("gradients", "reduce-scatter", part.axes, step.accumulate * part.used, _FLOAT32, step.accumulate),
    ]


def _together(found: list[Exchange]) -> list[Exchange]:
    """Exchanges that differ in nothing but size, as one."""
    groups: dict[tuple[str, ...], list[Exchange]] = {}
    for one in found:
        groups.setdefault((one.what, one.kind, *one.axes), []).append(one)
    return [
        dataclasses.replace(
            group[0], elements=sum(one.elements for one in group), count=sum(one.count for one in group)
        )
        for group in groups.values()
    ]


def _sums(axes: tuple[str, ...], step: Step, elements: int, count: int) -> Exchange:
    """Sums of activations where heads, feed-forward layers and vocabularies are split (Megatron-LM)."""
    return Exchange(
        "activations", "all-reduce", axes, step.accumulate * elements, step.itemsize, step.accumulate * count
    )


def _widths(layout: Layout, model: ModelConfig) -> tuple[int, int]:
    """Numbers of a position on a device: of queries and results together, and of keys and values."""
    width = model.d_model // math.prod(layout.mesh.shape[axis] for axis in layout.axes_in_use("heads"))
    return 2 * width, 2 * width * (model.num_kv_heads or model.num_heads) // model.num_heads


def _between_positions(layout: Layout, step: Step, positions: tuple[int, int], attentions: int) -> list[Exchange]:
    """What attention needs of other devices where sequences are split.

    Queries, keys, values and results, of which heads are exchanged for positions and back (Jacobs et al. 2023, section
    3); or, where heads do not divide for that, keys and values, which are gathered, and their gradients, which are
    scattered (Grattafiori et al. 2024, section 3.3.2). Where the backward pass computes attention again, it gathers
    again.

    Args:
      layout, step: as of `exchanges`.
      positions: of queries and of keys that a device has in a micro-batch, of all attentions together.
      attentions: how many there are.
    """
    model, axes = step.model, layout.axes("length")
    (queries, keys), (own, of_keys) = positions, _widths(layout, model)
    if layout.exchanges_heads(model.num_kv_heads or model.num_heads):
        times = step.accumulate * step.turns
        elements = times * (queries * own + keys * of_keys)
        return [Exchange("heads for positions", "all-to-all", axes, elements, step.itemsize, 4 * times * attentions)]
    whole, count = step.accumulate * keys * of_keys * layout.parts("length"), 2 * step.accumulate * attentions
    times = step.turns - 1
    return [
        Exchange("keys and values", "all-gather", axes, times * whole, step.itemsize, times * count),
        Exchange("gradients of keys and values", "reduce-scatter", axes, whole, _FLOAT32, count),
    ]
