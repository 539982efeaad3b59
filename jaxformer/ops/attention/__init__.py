"""Scaled dot-product attention: one public function, its masks, and the implementations behind it."""

from jaxformer.ops.attention.api import (
    IMPLEMENTATIONS,
    Call,
    Decision,
    attention,
    decide_attention,
    load_measurements,
    recorded_calls,
)
from jaxformer.ops.attention.choice import forget_measurements, loaded_measurements, use_measurements
from jaxformer.ops.attention.decoding import decode_attention
from jaxformer.ops.attention.mask import Mask

__all__ = [
    "IMPLEMENTATIONS",
    "Call",
    "Decision",
    "Mask",
    "attention",
    "decide_attention",
    "decode_attention",
    "forget_measurements",
    "load_measurements",
    "loaded_measurements",
    "recorded_calls",
    "use_measurements",
]
