"""Search over any step function: greedy, sampling and beam search, batched, inside `jit`.

Not for models or text: a step function maps the last tokens and a cache to the next logits, whatever computes them.
"""

from jaxformer.decoding.beam import BeamSearch, beam_search
from jaxformer.decoding.hypotheses import Hypotheses, StepFunction, length_norm
from jaxformer.decoding.rollout import GreedySearch, Sampling, greedy_search, sample
from jaxformer.decoding.search import Search, advance, search_to_end, take_rows
from jaxformer.decoding.selection import top_k, truncate

__all__ = [
    "BeamSearch",
    "GreedySearch",
    "Hypotheses",
    "Sampling",
    "Search",
    "StepFunction",
    "advance",
    "beam_search",
    "greedy_search",
    "length_norm",
    "sample",
    "search_to_end",
    "take_rows",
    "top_k",
    "truncate",
]
