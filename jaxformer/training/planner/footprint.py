"""The memory of a training step by closed forms: nothing is compiled, nothing is traced, nothing is allocated.

What is there all the time is exact. What a step keeps for its backward pass is counted array by array, as the layers
of `nn` and `ops` save them. What XLA needs besides, while it works on one layer, is a multiple of what that layer
keeps; the multiples were read off compiled programs (`tests/training/planner/test_footprint.py` holds them to 15 % of
these).
The compiled program's own word is `training.memory.step_memory`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.choice import prefer
from jaxformer.ops.linear_cross_entropy import suitable_chunk
from jaxformer.training.planner.network import Network
from jaxformer.training.planner.share import Share

_WORKING, _WORKING_WEIGHTS, _AGAIN = 1.3, 0.6, 1.5
"""Memory for the work on a layer, in multiples of what its backward pass reads, by activations and by attention
weights: gradients of the same shapes that live for a moment. Where all of a layer is made again, so are its
activations, at 1.5 times their size together."""

_UNROLLED = 1.5
"""How much more XLA's CPU backend works on at once where several layers are not scanned; all members together, too."""


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes on each device.

    Attributes:
      state: parameters, their average, optimizer: there all the time.
      kept: activations between the forward and the backward pass of a micro-batch.
      working: of the layer or the chunk of logits that is worked on.
      gradients: of the parameters, and those summed over micro-batches.
      copies: parameters gathered from other devices, or rounded.
      host: kept in host memory instead.
    """

    state: int
    kept: int
    working: int
    gradients: int
    copies: int
    host: int = 0

    @property
    def temporary(self) -> int:
        """What a step needs besides the state."""
        return self.kept + self.working + self.gradients + self.copies

    @property
    def total(self) -> int:
        """On the device."""
        return self.state + self.temporary


class Activations(NamedTuple):
    """Bytes of one layer of the encoder and of one of the decoder, and how much of each are attention weights."""

    encoder: float
    decoder: float
    encoder_weights: float = 0.0
    decoder_weights: float = 0.0

    def of(self, network: Network) -> float:
        """Of all layers."""
        return network.encoder_layers * self.encoder + network.decoder_layers * self.decoder

    def working(self, remat: str) -> float:
        """Bytes while the larger layer is worked on."""
        if remat == "full":
            return _AGAIN * max(self.encoder, self.decoder)
        sides = ((self.encoder, self.encoder_weights), (self.decoder, self.decoder_weights))
        return max(_WORKING * (every - weights) + _WORKING_WEIGHTS * weights for every, weights in sides)


def footprint(share: Share, *, cpu: bool = False) -> Footprint:
    """The memory of a step.

    Args:
      share: what the device does.
      cpu: whether XLA's CPU backend compiles it: there 16-bit activations are held, and computed with, in 32 bits.
    """
    config, network, remat = share.config, share.network, share.candidate.remat
    width = 4 if cpu else share.bytes
    every = layer_activations(share, width)
    activations = (every if remat == "none" else _kept(share, width)).of(network)
    at_once = 1.0
    if cpu and not config.model.scan_layers:
        at_once = network.members * (_UNROLLED if network.depth > network.members else 1.0)
    layer, (logits, kernel_gradient) = at_once * every.working(remat), _logits(share, width, cpu)
    fresh, summed = _gradients(share)
    ends = ends_activations(share, width)
    if not config.model.scan_layers:
        # Layers compiled one by one free their activations while the gradients of parameters come into being.
        fresh = max(fresh - activations, 0.0)
    # The larger of two moments: the cross-entropy, when there is no gradient but its own, and a layer backward.
    working, gradients = max((layer, fresh), (logits, kernel_gradient), key=sum)
    host = activations if remat == "offload" else 0.0
    return Footprint(
        state=share.held.total,
        kept=round(activations + ends - host),
        working=round(working),
        gradients=round(gradients + summed),
        copies=round(_copies(share, width, cpu)),
        host=round(host),
    )


def layer_activations(share: Share, width: int) -> Activations:
    """Bytes that a layer's backward pass reads, `width` being those of an activation in 16 or 32 bits.

    A norm saves its input, or what it makes of it, and one or two numbers in float32; a linear map its input; a relu
    nothing besides, and before dropout its output; a gelu three and a swiglu five times F; attention its operands,
    gathered ones whole, and besides what `_attention` says.
    """
    model, parts = share.config.model, share.candidate.tensor
    d, f, kv = model.d_model, model.d_ff / parts, _kv_width(share)
    own = d / parts
    relu = width * f if model.activation_dropout else 0.0
    nonlinear = {"relu": relu, "gelu": 3 * width * f, "swiglu": 5 * width * f}[model.activation]
    norm = width * d + 4
    source, target = share.rows * share.source, share.rows * share.target
    kv *= share.candidate.context if share.gathers_keys else 1
    attention = norm + width * (d + own) + width * (own + 2 * kv)  # inputs of both maps; queries, keys, values
    feed_forward = norm + width * (d + f) + nonlinear
    cross = norm + width * (d + own) + width * own
    encoder = source * (attention + feed_forward)
    decoder = target * (attention + cross + feed_forward) + source * width * 2 * kv
    over_source = _attention(share, share.source, share.source, width)
    over_both = _attention(share, share.target, share.target, width)
    over_both += _attention(share, share.target, share.source, width)
    if not share.network.decoder_layers:
        return Activations(encoder + over_source, 0.0, over_source)
    return Activations(encoder + over_source, decoder + over_both, over_source, over_both)


def ends_activations(share: Share, width: int) -> float:
    """Bytes that the backward pass reads outside of layers."""
    return float(share.rows * share.network.kept_at_ends(share.source) * width)


def _kept(share: Share, width: int) -> Activations:
    """What is left to keep when a layer is computed again: its input and, but for `full`, its products."""
    model, parts = share.config.model, share.candidate.tensor
    d, f, kv = model.d_model, model.d_ff / parts, _kv_width(share)
    source, target = share.rows * share.source, share.rows * share.target
    if share.candidate.remat == "full":
        return Activations(source * width * d, target * width * d)
    f *= 2 if model.activation == "swiglu" else 1
    attention = d / parts + 2 * kv + d  # queries, keys and values, and the output
    encoder = source * width * (d + attention + f)
    return Activations(encoder, target * width * (d + attention + d / parts + d + f) + source * width * 2 * kv)


def _kv_width(share: Share) -> float:
    model = share.config.model
    return model.d_model * (model.num_kv_heads or model.num_heads) / model.num_heads / share.candidate.tensor


def _attention(share: Share, queries: int, keys: int, width: int) -> float:
    """Weights before and after the softmax in float32, and once more as short as activations; or nothing of the kind.

    The implementation is the one that `ops.attention` would choose; all but `xla` keep their result, and a number for
    each query, in place of the weights. Queries and keys are those of a device's part of sequences.
    """
    keys *= share.candidate.context
    queries *= 1 if share.gathers_keys else share.candidate.context
    if holds_weights(share, queries, keys):
        return float(share.rows * share.heads * queries * keys * (2 * 4 + width))
    size = share.config.model.d_model // share.config.model.num_heads
    return float(share.rows * share.heads * queries * (size * width + 4))


def holds_weights(share: Share, queries: int, keys: int) -> bool:
    """Whether attention is computed in its plain form, with all its weights."""
    size = share.config.model.d_model // share.config.model.num_heads
    dtype = {4: jnp.float32, 2: jnp.bfloat16}[share.bytes]
    q, k = (jax.ShapeDtypeStruct((share.rows, length, share.heads, size), dtype) for length in (queries, keys))
    order = prefer(q, k, None, share.config.model.attention_dropout > 0, share.device).order
    if share.gathers_keys:  # counted as if all were causal: the others take no such queries from within a sequence
        order = tuple(name for name in order if name.startswith("xla"))
    return order[0] == "xla"


def _logits(share: Share, width: int, cpu: bool) -> tuple[float, float]:
    """Of the fused cross-entropy: a chunk's logits and their exponentials, and the gradient of the output's kernel."""
    if not share.vocabulary:
        return 0.0, 0.0
    tokens = min(suitable_chunk(share.vocabulary, cpu=cpu), share.rows * share.target)
    short = share.bytes < 4
    each = 2 * 4 + (width if short else 0)  # the exponentials once more, rounded for the products
    kernel = share.vocabulary * share.config.model.d_model
    return float(tokens * share.vocabulary * each), float(kernel * (4 + (4 if short and cpu else 0)))


def _gradients(share: Share) -> tuple[float, float]:
    """Bytes of the gradients of a micro-batch, and of their sum if there are several."""
    fresh = 4.0 * share.stored
    if share.candidate.fsdp > 1:
        fresh += 4.0 * share.tables  # whole, until they are summed and split
    return fresh, 4.0 * share.stored if share.candidate.accumulate > 1 else 0.0


def _copies(share: Share, width: int, cpu: bool) -> float:
    """Bytes of parameters as they are used: rounded, and those that are stored in parts put together."""
    rounded = float(share.bytes * share.stored) if share.bytes < 4 else 0.0
    if share.candidate.fsdp == 1:
        return rounded
    layers = share.used - share.tables
    # A CPU's compiler puts a layer together once for both passes, unless layers are scanned.
    at_once = 1.0 if cpu and not share.config.model.scan_layers else 1.0 / share.network.depth
    return rounded + width * (share.tables + layers * at_once)
