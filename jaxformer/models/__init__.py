"""Whole networks."""

from jaxformer.models.encoder import Encoder, EncoderWithHeads, Ensemble
from jaxformer.models.encoder_decoder import EncoderDecoder
from jaxformer.models.linear import SumHead, WordsAndPairs, linear_parts
from jaxformer.models.translation_ensemble import TranslationEnsemble

__all__ = [
    "Encoder",
    "EncoderDecoder",
    "EncoderWithHeads",
    "Ensemble",
    "SumHead",
    "TranslationEnsemble",
    "WordsAndPairs",
    "linear_parts",
]
