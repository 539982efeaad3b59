"""Building blocks with parameters (Flax NNX), each usable alone.

Randomness at call time is a `seed` (uint32 scalar, or None for evaluation), never a stateful generator: a block is a
pure function of its parameters, its inputs and the seed.
"""

from jaxformer.nn.attention import CrossAttention, KeyValues, SelfAttention
from jaxformer.nn.blocks import DecoderBlock, EncoderBlock
from jaxformer.nn.decoding_memory import DecodingMemory
from jaxformer.nn.embedding import Embedding, ValueEmbedding
from jaxformer.nn.feed_forward import FeedForward
from jaxformer.nn.heads import ChannelHead, PooledHead, TokenHead
from jaxformer.nn.multi_task import LearnedWeights
from jaxformer.nn.neighbourhood import Neighbourhood
from jaxformer.nn.residual import Norm, Residual
from jaxformer.nn.stack import Stack

__all__ = [
    "ChannelHead",
    "CrossAttention",
    "DecoderBlock",
    "DecodingMemory",
    "Embedding",
    "EncoderBlock",
    "FeedForward",
    "KeyValues",
    "LearnedWeights",
    "Neighbourhood",
    "Norm",
    "PooledHead",
    "Residual",
    "SelfAttention",
    "Stack",
    "TokenHead",
    "ValueEmbedding",
]
