"""Scaled dot-product attention: one public function, its masks, and the implementations behind it."""

from jaxformer.ops.attention.api import (
    IMPLEMENTATIONS,
    Call,
    attention,
    describe_attention,
    load_measurements,
    recorded_calls,
)
from jaxformer.ops.attention.choice import forget_measurements, loaded_measurements, use_measurements
from jaxformer.ops.attention.decoding import decode_attention
from jaxformer.ops.attention.mask import Mask

__all__ = [
    "IMPLEMENTATIONS",
    "Call",
    "Mask",
    "attention",
    "decode_attention",
    "describe_attention",
    "forget_measurements",
    "load_measurements",
    "loaded_measurements",
    "recorded_calls",
    "use_measurements",
]
