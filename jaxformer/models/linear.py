"""A classifier without layers: every word, and every pair of neighbours, speaks for or against each class by itself.

With short texts it is hard to beat (Wang and Manning 2012, section 4.1), and wrong about others than a network, which
is what an `Ensemble` lives by. Not for numbers, and not for labels of positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.ops import fold_seed
from jaxformer.parallel.sharding import gathered, place, summed, whole_length
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Sequences, Series

PAIRS = 200_000
"""Buckets of pairs of neighbours, by their hash (Joulin et al. 2016, section 2.1); pairs that share one are alike."""
_PACE = 10.0
"""How much faster weights move than those of a network: a sum of a few weights has to say what layers say there."""
_SILENT = max(PAD_ID, UNK_ID, BOS_ID, EOS_ID)
_DIMS = ("pairs", "outputs")


class WordsAndPairs(nnx.Module):
    """What every position says of the outputs: of its token, and of that with the next one of the same sequence.

    It takes the place of an `Encoder` under a head that adds up positions. Padding, the marks of a beginning and an
    end, and the unknown token say nothing, alone or in a pair; nor does how tokens are spelt.

    Args:
      vocabulary_size: V.
      num_outputs: E.
      pairs: buckets that pairs are hashed into.
    """

    def __init__(self, vocabulary_size: int, num_outputs: int, *, pairs: int = PAIRS) -> None:
        self.vocabulary_size, self.pairs = vocabulary_size, pairs
        self.weights = nnx.Param(jnp.zeros((vocabulary_size + pairs, num_outputs)), dims=_DIMS)

    def __call__(
        self, inputs: Sequences | Series, *, seed: jax.Array | None = None, embedded: jax.Array | None = None
    ) -> jax.Array:
        """`embed(inputs)`, or `embedded` in place of it, [B, S, E]; there is no dropout for a `seed`."""
        return self.embed(inputs) if embedded is None else embedded

    def embed(self, inputs: Sequences | Series) -> jax.Array:
        """What every position says, [B, S, E], in float32 at least.

        Raises:
          ValueError: for numbers instead of tokens.
        """
        if not isinstance(inputs, Sequences):
            raise ValueError(f"words and pairs are of tokens (Sequences), got {type(inputs).__name__}")
        tokens = jnp.asarray(inputs.tokens)
        words, pairs = self._ids(tokens if tokens.ndim == 2 else tokens[..., 0], jnp.asarray(inputs.segment_ids))
        table = gathered(self.weights[...], _DIMS)
        wide = table.astype(jnp.promote_types(table.dtype, jnp.float32))
        said = [jnp.where((ids >= 0)[..., None], wide[ids], 0) for ids in (words, pairs)]
        return _PACE * (said[0] + said[1])

    def _ids(self, tokens: jax.Array, segment_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """int32 [B, S] twice: rows of the table, -1 for none."""
        here = tokens.shape[1]
        words, segments = whole_length(tokens), whole_length(segment_ids)
        speaks = words > _SILENT
        together = speaks & _next(speaks) & (segments == _next(segments))
        buckets = fold_seed(words, _next(words))  # a hash of two numbers, which saved tables rely on
        assert buckets is not None
        pairs = self.vocabulary_size + (buckets % self.pairs).astype(jnp.int32)
        whole = jnp.where(speaks, words, -1), jnp.where(together, pairs, -1)
        index, _ = place("length")
        own_words, own_pairs = (jax.lax.dynamic_slice_in_dim(ids, index * here, here, axis=1) for ids in whole)
        return own_words, own_pairs


def _next(x: jax.Array) -> jax.Array:
    """What stands one position later, [B, S]; 0 after the last."""
    return jnp.pad(x, ((0, 0), (0, 1)))[:, 1:]


class SumHead(nnx.Module):
    """A prediction for every sequence: what its positions say, added up, and a bias.

    Args:
      first, num_outputs: which outputs of what is said are those of this head.
    """

    def __init__(self, first: int, num_outputs: int) -> None:
        self.outputs = slice(first, first + num_outputs)
        self.bias = nnx.Param(jnp.zeros(num_outputs), dims=("outputs",))

    def __call__(
        self, encoded: jax.Array, inputs: Sequences | Series, *, num_sequences: int = 1, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, *] to [B, G, E], whole on every device that has a part of the sequences; `seed` changes nothing."""
        own = jnp.asarray(inputs.segment_ids)[..., None] == jnp.arange(1, num_sequences + 1)  # [B, S, G]
        said = jnp.einsum("bsg,bse->bge", own.astype(encoded.dtype), encoded[..., self.outputs])
        return summed(said, "length") + self.bias[...]


def linear_parts(vocabulary_size: int, num_outputs: Mapping[str, int]) -> tuple[WordsAndPairs, dict[str, SumHead]]:
    """An encoder of words and pairs, and a head over it for each of several predictions by name."""
    heads, first = {}, 0
    for name, number in num_outputs.items():
        heads[name] = SumHead(first, number)
        first += number
    return WordsAndPairs(vocabulary_size, first), heads
