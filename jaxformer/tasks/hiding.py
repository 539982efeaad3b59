"""Tokens that a text classifier does not get to see while it learns: so that it does not hang on single words.

Not for dropout inside a network: that is `ops.dropout`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxformer.config import TaskConfig
from jaxformer.ops import fold_seed
from jaxformer.ops.dropout import keep_mask, row_seeds
from jaxformer.parallel.sharding import place
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Sequences

_HIDING = 1 << 17
"""What seeds of hidden tokens are folded with: more than any place in a network has for its number."""


def hidden_tokens(inputs: Sequences, rate: float, seed: jax.Array) -> Sequences:
    """`inputs` with tokens replaced by the unknown one, each with probability `rate` (Iyyer et al. 2015: word dropout).

    How they are spelt stays, as it does of words that no vocabulary has. Padding and the marks of a sequence's
    beginning and end are never hidden: they say nothing to be learnt without.

    Args:
      inputs: rows [B, S].
      rate: in (0, 1).
      seed: uint32, one or one for each row.
    """
    whole = jnp.asarray(inputs.tokens)
    tokens = whole if whole.ndim == 2 else whole[..., 0]
    seeds = fold_seed(row_seeds(seed, tokens.shape[0]), _HIDING)
    assert seeds is not None
    keep = keep_mask(seeds, tokens.shape, rate, (place("length"),))
    spared = (tokens == PAD_ID) | (tokens == BOS_ID) | (tokens == EOS_ID)
    hidden = jnp.where(keep | spared, tokens, UNK_ID)
    return dataclasses.replace(inputs, tokens=hidden if whole.ndim == 2 else whole.at[..., 0].set(hidden))


def hidden_shares(task: TaskConfig, number_of_all: int) -> list[float]:
    """The share of tokens that training hides from each of all members, networks before linear ones."""
    if not task.vary_token_dropout:
        return [task.token_dropout] * number_of_all
    kinds = (task.members, task.linear_members)
    return [task.token_dropout * (1 - number / max(1, of - 1)) for of in kinds for number in range(of)]
