"""Model FLOPs of a training step: the floating-point operations of its matrix products, by formula.

Counted as in Chowdhery et al. 2022 (PaLM, appendix B): what the mathematics needs, whatever a program does. A product
of [m, k] by [k, n] is 2 m k n; the backward pass is twice the forward; causal attention is half of full attention; in a
layer with a local window a query meets as many keys as the window has, 2 `model.local_window` + 1, or all where they
are fewer; work done again (rematerialisation) and elementwise work count for nothing. Slots are counted, padding
included: what a step spends on padding is said by the padding efficiency instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxformer.config import ModelConfig


def forward_flops(model: ModelConfig, vocabulary: int, rows: int, source: int, target: int) -> dict[str, float]:
    """FLOPs of one forward pass over `rows` pairs of `source` and `target` slots, by part.

    Args:
      model: sizes.
      vocabulary: V of the target.
      rows: B.
      source: S, slots of a source row, padding included.
      target: T.

    Returns:
      `encoder`, `decoder`, `attention` (scores and weighted sums of all layers) and `output` (the logits).
    """
    d, kv = model.d_model, model.d_model * (model.num_kv_heads or model.num_heads) // model.num_heads
    feed_forward = (3 if model.activation == "swiglu" else 2) * d * model.d_ff
    own = 2 * d * d + 2 * d * kv  # query and output, key and value
    encoder = model.num_encoder_layers * source * (own + feed_forward)
    decoder = model.num_decoder_layers * (
        target * (own + feed_forward + 2 * d * d)  # the cross-attention's query and output
        + source * 2 * d * kv
    )
    # Scores and the weighted sum are one product each of [T, D] by [D, S].
    attention = 2 * d * (
        source * _keys_met(model, source)
        + model.num_decoder_layers * (target * target / 2 + target * source)
    )
    parts = {"encoder": encoder, "decoder": decoder, "attention": attention, "output": target * d * vocabulary}
    return {name: 2.0 * rows * products for name, products in parts.items()}


def _keys_met(model: ModelConfig, length: int) -> int:
    """Keys that a query of the encoder meets in all layers together, among `length`; a window reaches both ways."""
    whole = model.num_encoder_layers - model.local_layers
    return whole * length + model.local_layers * min(length, 2 * model.local_window + 1)


def training_flops(model: ModelConfig, vocabulary: int, rows: int, source: int, target: int) -> float:
    """FLOPs of one training step (forward and backward); see `forward_flops`."""
    return 3.0 * sum(forward_flops(model, vocabulary, rows, source, target).values())


def describe_flops(model: ModelConfig, vocabulary: int, rows: int, source: int, target: int) -> str:
    """`training_flops` with its parts, for a run's log."""
    parts = forward_flops(model, vocabulary, rows, source, target)
    total = training_flops(model, vocabulary, rows, source, target)
    shares = ", ".join(f"{name} {value / 1e9:,.3g}" for name, value in parts.items())
    return (
        f"{total / 1e9:,.4g} GFLOP for {rows}x({source}+{target}) slots = 3 (forward, and backward twice that) x "
        f"({shares}); causal attention counts half, recomputation nothing"
    )


def encoder_flops(
    model: ModelConfig, rows: int, length: int, *, num_channels: int = 0, heads: float = 0.0, members: int = 1
) -> dict[str, float]:
    """FLOPs of one forward pass of encoders and their heads over `rows` rows of `length` slots, by part.

    Args:
      model: sizes.
      rows: B.
      length: S, slots of a row, padding included.
      num_channels: C, numbers of an input, which a product embeds; 0 for tokens, which are looked up.
      heads: FLOPs of the heads' forward pass: `LabellingTask.head_flops`.
      members: encoders of an ensemble.

    Returns:
      `encoder`, `attention` (scores and weighted sums of all layers) and `heads`.
    """
    layers = forward_flops(model, 0, rows, length, 0)
    embedding = 2.0 * rows * length * num_channels * model.d_model
    encoder, attention = layers["encoder"] + embedding, layers["attention"]
    return {"encoder": members * encoder, "attention": members * attention, "heads": heads}


def describe_encoder_flops(parts: Mapping[str, float], rows: int, length: int) -> str:
    """FLOPs of one training step of an encoder, from the parts that `encoder_flops` gives, for a run's log."""
    shares = ", ".join(f"{name} {value / 1e9:,.3g}" for name, value in parts.items())
    return (
        f"{3 * sum(parts.values()) / 1e9:,.4g} GFLOP for {rows}x{length} slots = 3 (forward, and backward twice that) "
        f"x ({shares}); a layer with a local window counts the positions in it, recomputation nothing"
    )
