"""Search over any step function: greedy, sampling and beam search, batched, inside `jit`.

Not for models or text: a step function maps the last tokens and a cache to the next logits, whatever computes them.
"""

from jaxformer.decoding.beam import beam_search
from jaxformer.decoding.hypotheses import Hypotheses, StepFunction, length_norm
from jaxformer.decoding.rollout import greedy_search, sample
from jaxformer.decoding.selection import top_k, truncate

__all__ = [
    "Hypotheses",
    "StepFunction",
    "beam_search",
    "greedy_search",
    "length_norm",
    "sample",
    "top_k",
    "truncate",
]
