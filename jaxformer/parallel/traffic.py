"""What travels between devices in a training step, by formula: which arrays, along which axes, how often, how large.

Pure arithmetic on a layout, which may lie on devices that are not there (`jax.sharding.AbstractMesh`);
`tests/parallel/test_layouts.py` holds compiled steps to it. Not for how long it takes, and not for what is small: ids,
single columns and rows of numbers. Steps that compute activations again exchange some of them again, which is left out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jaxformer.config import ModelConfig
from jaxformer.parallel.layout import Layout, map_variables

_FLOAT32 = 4  # bytes; gradients are summed in it whatever the precision


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


def exchanges(
    layout: Layout, params: Any, model: ModelConfig, shape: tuple[int, int, int], *, itemsize: int, accumulate: int = 1
) -> list[Exchange]:
    """Every exchange of a training step of an encoder-decoder.

    Args:
      layout: of the devices.
      params: a tree of variables with `dims`, of whole shapes; they may be abstract.
      model: sizes.
      shape: (rows, source slots, target slots) that a device has of a micro-batch.
      itemsize: bytes of a number in the precision of activations and of parameters in use.
      accumulate: micro-batches in a step.
    """
    found = [
        *_of_parameters(layout, params, itemsize, accumulate),
        *_of_layers(layout, model, shape, itemsize, accumulate),
        *_of_sequences(layout, model, shape, itemsize, accumulate),
    ]
    return [exchange for exchange in found if exchange.axes]


def _of_parameters(layout: Layout, params: Any, itemsize: int, accumulate: int) -> list[Exchange]:
    """Each gradient is summed once over devices with other rows or positions, in a step; see also `_stored`."""
    summed: dict[tuple[str, ...], list[int]] = {}
    stored: list[Exchange] = []

    def add(leaf: Any, dims: tuple[str, ...]) -> None:
        parts = math.prod(layout.mesh.shape[axis] for dim in dims for axis in layout.axes_in_use(dim))
        axes = tuple(axis for dim in dims for axis in layout.stored_axes(dim, dims))
        used = leaf.size // parts
        kept = used // math.prod(layout.mesh.shape[axis] for axis in axes)
        stored.extend(_stored(axes, dims, used, itemsize, accumulate))
        rest = tuple(axis for axis in layout.batch_axes if axis not in axes)
        summed.setdefault(rest, []).append(kept)

    map_variables(add, params)
    gradients = [
        Exchange("gradients", "all-reduce", axes, sum(sizes), _FLOAT32, len(sizes)) for axes, sizes in summed.items()
    ]
    return gradients + _together(stored)


def _stored(
    axes: tuple[str, ...], dims: tuple[str, ...], size: int, itemsize: int, accumulate: int
) -> list[Exchange]:
    """A matrix that is stored in parts is gathered for use, in layers once more for the backward pass.

    Tables are gathered once; every gradient is scattered once. All of that in each micro-batch.
    """
    times = accumulate * (1 if {"vocabulary", "position"} & {*dims} else 2)
    return [
        Exchange("parameters", "all-gather", axes, times * size, itemsize, times),
        Exchange("gradients", "reduce-scatter", axes, accumulate * size, _FLOAT32, accumulate),
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


def _of_layers(
    layout: Layout, model: ModelConfig, shape: tuple[int, int, int], itemsize: int, accumulate: int
) -> list[Exchange]:
    """Sums of activations where heads, feed-forward layers and vocabularies are split (Megatron-LM).

    Two sub-layers of the encoder and three of the decoder, there and back, of which attention to the source enters
    twice; both embeddings; and the gradient to the output of the decoder, which the cross-entropy leaves in float32.
    """
    rows, source, target = shape
    of_source = 1 + 4 * model.num_encoder_layers + model.num_decoder_layers
    of_target = 1 + 6 * model.num_decoder_layers
    row, axes = accumulate * rows * model.d_model, layout.axes_in_use("heads")
    slots, count = of_source * source + of_target * target, accumulate * (of_source + of_target)
    return [
        Exchange("activations", "all-reduce", axes, row * slots, itemsize, count),
        Exchange("gradient of the output", "all-reduce", axes, row * target, _FLOAT32, accumulate),
    ]


def _of_sequences(
    layout: Layout, model: ModelConfig, shape: tuple[int, int, int], itemsize: int, accumulate: int
) -> list[Exchange]:
    """Where sequences are split, attention exchanges heads for positions and back (Jacobs et al. 2023, section 3).

    Queries, keys, values and results of every attention, forward and backward.
    """
    rows, source, target = shape
    width = model.d_model // math.prod(layout.mesh.shape[axis] for axis in layout.axes_in_use("heads"))
    keys = 2 * width * (model.num_kv_heads or model.num_heads) // model.num_heads  # and values; queries and results:
    own = 2 * width
    encoder = model.num_encoder_layers * source * (own + keys)
    decoder = model.num_decoder_layers * (target * (own + keys) + target * own + source * keys)
    count = 8 * accumulate * (model.num_encoder_layers + 2 * model.num_decoder_layers)
    elements = 2 * accumulate * rows * (encoder + decoder)
    return [Exchange("heads for positions", "all-to-all", layout.axes("length"), elements, itemsize, count)]
