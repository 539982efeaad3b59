"""The time of a training step by a roofline: matrix products, memory traffic, exchanges and a start for every kernel.

They are added up as if nothing ran beside anything else (Williams, Waterman and Patterson 2009 draw the roof for one
kernel; a step is many, each under the one roof or the other). Not for what a step needs in memory (`footprint`).
"""

from __future__ import annotations

import dataclasses
import math

from jaxformer.ops.linear_cross_entropy import suitable_chunk
from jaxformer.parallel.traffic import Exchange
from jaxformer.training.planner.exchanges import exchanges_of, seconds, starts
from jaxformer.training.planner.footprint import ends_activations, footprint, layer_activations
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.share import Share

_PASSES = 5
"""How often an array that a layer keeps crosses memory: written and read forward, read backward, and its gradient
written and read."""

_LOGITS_PASSES = 8
"""The same for a chunk of logits, of which the gradient is taken at once."""

_KERNELS = {"encoder": 40, "decoder": 60}
"""Kernels of a layer, forward and backward together, after XLA has fused them."""

_HOST_LINK = 25e9
"""Bytes/s between a device and its host: what PCIe 4 reaches; for `offload`."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
      products: of matrices.
      memory: traffic of everything else.
      exchanges: between devices, by what travels.
      starts: of kernels.
    """

    products: float
    memory: float
    exchanges: dict[str, float]
    starts: float

    @property
    def exchange(self) -> float:
        """All exchanges together."""
        return sum(self.exchanges.values())

    @property
    def total(self) -> float:
        """The whole step."""
        return self.products + self.memory + self.exchange + self.starts


def step_time(share: Share, hardware: Hardware) -> StepTime:
    """How long a step takes on `hardware`."""
    rates, candidate = hardware.rates, share.candidate
    sent: dict[str, float] = {}
    for one in exchanges_of(share):
        name = f"{one.kind} of {one.what}"
        sent[name] = sent.get(name, 0.0) + seconds(one, candidate.sizes, hardware)
    network = share.network
    kernels = _KERNELS["encoder"] * network.encoder_layers + _KERNELS["decoder"] * network.decoder_layers
    again = 4 / 3 if candidate.remat != "none" else 1.0
    return StepTime(
        products=products(share) / rates.products,
        memory=traffic(share, cpu=hardware.cpu) / rates.memory + _offloaded(share) / _HOST_LINK,
        exchanges=sent,
        starts=candidate.accumulate * kernels * again * rates.start,
    )


def products(share: Share) -> float:
    """FLOPs of the matrix products of a device in a step, those of recomputation and of hidden scores among them."""
    candidate = share.candidate
    source, target = (length * candidate.context for length in (share.source, share.target))
    # What the rows of a micro-batch cost, split over the devices that have them together.
    of_rows = share.network.products(share.rows, source, target)
    layers = of_rows.layers * (4 if candidate.remat == "full" else 3)
    attention = of_rows.attention * (4 if candidate.remat != "none" else 3)
    split = (layers + attention + 3 * of_rows.output) / candidate.tensor
    return candidate.accumulate * (split + 3 * of_rows.ends) / candidate.context


def traffic(share: Share, *, cpu: bool = False) -> float:
    """Bytes that cross the memory of a device in a step, but for what products of matrices read twice."""
    candidate = share.candidate
    passes = _PASSES + (2 if candidate.remat == "full" else 1 if candidate.remat != "none" else 0)
    activations = passes * layer_activations(share, share.bytes).of(share.network)
    activations += _PASSES * ends_activations(share, share.bytes)
    # Parameters are read forward and backward, and their gradients written, and added to those of the micro-batches.
    parameters = share.used * (2 * share.bytes + 4) + (12 * share.stored if candidate.accumulate > 1 else 0)
    # The update reads the gradients, and reads and writes the state.
    of_micro_batch = activations + _logits_traffic(share, cpu) + parameters
    return candidate.accumulate * of_micro_batch + 2 * share.held.total + 8 * share.stored


def _logits_traffic(share: Share, cpu: bool) -> float:
    if not share.vocabulary:
        return 0.0
    slots, kernel = share.rows * share.target, share.vocabulary * share.config.model.d_model
    # A chunk reads the kernel twice, and reads and writes its gradient in float32.
    chunks = math.ceil(slots / suitable_chunk(share.vocabulary, cpu=cpu))
    return chunks * kernel * (2 * share.bytes + 8) + slots * share.vocabulary * 4.0 * _LOGITS_PASSES


def _offloaded(share: Share) -> float:
    """Bytes that go to the host and come back, where activations wait there."""
    if share.candidate.remat != "offload":
        return 0.0
    return 2.0 * share.candidate.accumulate * footprint(share).host


def describe_exchanges(share: Share, hardware: Hardware) -> list[str]:
    """What travels, a line each: how much, along which axes, how long."""

    def line(one: Exchange) -> str:
        taken = seconds(one, share.candidate.sizes, hardware)
        return (
            f"{one.kind} of {one.what} along {' and '.join(one.axes)}: {one.bytes / 1e6:,.1f} MB in {starts(one):,} "
            f"exchange(s), {1e3 * taken:,.2f} ms"
        )

    return [line(one) for one in exchanges_of(share)]
