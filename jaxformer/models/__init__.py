"""Whole networks."""

from jaxformer.models.encoder import Encoder, EncoderWithHeads, Ensemble
from jaxformer.models.encoder_decoder import EncoderDecoder

__all__ = ["Encoder", "EncoderDecoder", "EncoderWithHeads", "Ensemble"]
