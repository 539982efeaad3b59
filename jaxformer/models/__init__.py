"""Whole networks."""

from jaxformer.models.encoder import Encoder, EncoderWithHeads, Ensemble
from jaxformer.models.encoder_decoder import EncoderDecoder
from jaxformer.models.linear import SumHead, WordsAndPairs, linear_parts

__all__ = ["Encoder", "EncoderDecoder", "EncoderWithHeads", "Ensemble", "SumHead", "WordsAndPairs", "linear_parts"]
