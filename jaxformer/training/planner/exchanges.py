"""What travels between devices in a training step, by formula: which arrays, along which axes, how often.

The formulas are those that `tests/parallel/test_layouts.py` holds compiled steps to. Not for how long that takes, but
for the rule of thumb by which a group of devices exchanges over two kinds of links (`Exchange.seconds`).
"""

from __future__ import annotations

import dataclasses
import math

from jaxformer.parallel.mesh import AXES
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.share import Share


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One kind of exchange of a step.

    Attributes:
      what: travels, for a person.
      kind: `all-reduce`, `all-gather`, `reduce-scatter` or `all-to-all`.
      axes: of the mesh; the devices along them exchange.
      bytes: of the whole array on one device, before a reduction or after a gathering; all of a step together.
      count: how many exchanges these are.
    """

    what: str
    kind: str
    axes: tuple[str, ...]
    bytes: float
    count: int

    def seconds(self, sizes: dict[str, int], hardware: Hardware) -> float:
        """How long it takes, with the devices of a host joined by links and hosts by a network.

        An exchange over h hosts with m devices of each goes in two stages: within hosts it is of the whole, between
        hosts each device exchanges its m-th part. In each of them a ring sends (p - 1) / p of the array, an all-reduce
        twice that (Thakur, Rabenseifner and Gropp 2005, section 4).

        Args:
          sizes: devices along each axis.
          hardware: with the rates of both.
        """
        inside, hosts = _group(self.axes, sizes, hardware.per_host)
        if inside * hosts == 1:
            return 0.0
        rates, times = hardware.rates, 2.0 if self.kind == "all-reduce" else 1.0
        within = (inside - 1) / inside * self.bytes
        across = (hosts - 1) / hosts * self.bytes / (1 if self.kind == "all-to-all" else inside)
        stages = (inside > 1) + (hosts > 1)
        return times * (within / rates.link + across / rates.network) + self.count * stages * rates.latency


def _group(axes: tuple[str, ...], sizes: dict[str, int], per_host: int) -> tuple[int, int]:
    """Of the devices along `axes`, how many are in a host, and in how many hosts they are: the last axis is nearest."""
    inside, hosts, stride = 1, 1, 1
    for axis in reversed(AXES):
        if axis in axes:
            room = max(1, per_host // stride)
            near = math.gcd(sizes[axis], room)
            inside, hosts = inside * near, hosts * sizes[axis] // near
        stride *= sizes[axis]
    return inside, hosts


def exchanges(share: Share) -> list[Exchange]:
    """All of a step that are worth counting: those of whole arrays, not of single rows and scalars."""
    found = [*_of_gradients(share), *_of_parameters(share)]
    if share.candidate.tensor > 1:
        found.append(_of_layers(share))
    if share.candidate.context > 1:
        found.append(_of_sequences(share))
    return [exchange for exchange in found if exchange.bytes]


def _of_gradients(share: Share) -> list[Exchange]:
    """Each gradient is summed once a step over the devices that have other rows or positions, in float32."""
    sizes, stored = share.candidate.sizes, share.candidate.fsdp > 1
    batch = tuple(axis for axis in ("data", "fsdp", "context") if sizes[axis] > 1)
    vectors = sum(one.stored for one in share.parameters if not one.matrix)
    matrices = share.stored - vectors
    groups = [(batch, vectors), (tuple(axis for axis in batch if axis != "fsdp"), matrices)] if stored else [
        (batch, vectors + matrices)
    ]  # fmt: skip
    return [Exchange("gradients", "all-reduce", axes, 4.0 * numbers, 1) for axes, numbers in groups if axes]


def _of_parameters(share: Share) -> list[Exchange]:
    """Matrices stored in parts: those of layers gathered twice a micro-batch, tables once; each gradient scattered."""
    if share.candidate.fsdp == 1:
        return []
    layers = sum(one.used for one in share.parameters if one.matrix) - share.tables
    matrices = sum(one.matrix for one in share.parameters)
    times = share.candidate.accumulate
    gathered = share.bytes * (2 * layers + share.tables)
    return [
        Exchange("parameters", "all-gather", ("fsdp",), float(times * gathered), times * 2 * matrices),
        Exchange("gradients", "reduce-scatter", ("fsdp",), times * 4.0 * (layers + share.tables), times * matrices),
    ]


def _of_layers(share: Share) -> Exchange:
    """Sums of activations, two for a layer of the encoder and three of the decoder, forward and backward.

    In the decoder attention to the source enters twice. Besides, both embeddings, and the gradient of the
    cross-entropy. Recomputed layers sum again what they sum forward.
    """
    model, candidate = share.config.model, share.candidate
    forward = 2 if candidate.remat != "none" else 1
    of_source = model.num_encoder_layers * (2 * forward + 2) + model.num_decoder_layers + 1
    of_target = model.num_decoder_layers * (3 * forward + 3) + 1
    row = share.rows * model.d_model
    size = share.bytes * row * (of_source * share.source + of_target * share.target) + 4 * row * share.target
    count = candidate.accumulate * (of_source + of_target + 1)
    return Exchange("activations", "all-reduce", ("tensor",), float(candidate.accumulate * size), count)


def _of_sequences(share: Share) -> Exchange:
    """Queries, keys, values and results change heads for positions before attention and back, and so do gradients."""
    model, candidate = share.config.model, share.candidate
    kv = (model.num_kv_heads or model.num_heads) / model.num_heads
    times = 3 if candidate.remat != "none" else 2
    own, keys = 2.0, 2.0 * kv  # queries and results; keys and values
    of_source = model.num_encoder_layers * (own + keys) + model.num_decoder_layers * keys
    of_target = model.num_decoder_layers * (2 * own + keys)
    slots = of_source * share.source + of_target * share.target
    size = times * share.bytes * share.rows * slots * model.d_model / candidate.tensor
    count = times * 4 * (model.num_encoder_layers + 2 * model.num_decoder_layers) * candidate.accumulate
    return Exchange("heads for positions", "all-to-all", ("context",), candidate.accumulate * size, count)
