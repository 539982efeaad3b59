"""Scaled dot-product attention: one public function, its masks, and the implementations behind it."""

from jaxformer.ops.attention.api import attention, describe_attention, load_measurements
from jaxformer.ops.attention.decoding import decode_attention
from jaxformer.ops.attention.mask import Mask

__all__ = ["Mask", "attention", "decode_attention", "describe_attention", "load_measurements"]
