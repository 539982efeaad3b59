"""Whole networks."""

from jaxformer.models.encoder_decoder import EncoderDecoder

__all__ = ["EncoderDecoder"]
