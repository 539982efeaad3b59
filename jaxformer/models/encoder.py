"""The encoder Transformer (Vaswani et al. 2017, section 3.1; Devlin et al. 2019, section 3), alone and under heads.

Not for losses (`tasks`), and not for making patches or tokens (the data's part).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.models.linear import WordsAndPairs
from jaxformer.nn import Embedding, EncoderBlock, LearnedWeights, Neighbourhood, Norm, Stack, ValueEmbedding
from jaxformer.nn.dropout import dropout
from jaxformer.ops import Mask, fold_seed
from jaxformer.parallel.sharding import whole_length
from jaxformer.types import Sequences, Series


def encode_rows(
    embedded: jax.Array,
    inputs: Sequences | Series,
    stack: Stack,
    norm: Callable[[jax.Array], jax.Array] | None,
    rate: float,
    seed: jax.Array | None,
    local: Stack | None = None,
    window: int = 0,
) -> jax.Array:
    """Embedded rows [B, S, D] through dropout, encoder layers and the last norm, to [B, S, D].

    Args:
      embedded: [B, S, D].
      inputs: what was embedded, for positions and segments: a position sees those of its own sequence.
      stack: of layers with the interface of `EncoderBlock`.
      norm: after them; None for layers that end normalised.
      rate: of dropout on `embedded`.
      seed: uint32, one or one for each row; None for no dropout.
      local: layers before those of `stack`, in which a position sees others at most `window` away; None for none.
      window: of `local`.
    """
    x = dropout(embedded, rate, fold_seed(seed, 0))
    mask = Mask.segments(whole_length(inputs.segment_ids))
    if local is not None:
        x = local(x, inputs.positions, mask & Mask(window=window), seed=fold_seed(seed, 2))
    x = stack(x, inputs.positions, mask, seed=fold_seed(seed, 1))
    return x if norm is None else norm(x)


class Encoder(nnx.Module):
    """Rows of tokens, or of vectors of numbers, encoded.

    Args:
      config: sizes and kinds; what it says of decoders and of outputs is not used.
      vocabulary_size: V, for inputs of tokens.
      num_channels: C, for inputs of numbers; one of the two is given.
      encoder_block: a class with the interface of `EncoderBlock`, to change the block without changing the library.
      remat: what the backward pass computes again; see `nn.Stack`.
      rngs: of the initialisation, stream `params`.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocabulary_size: int = 0,
        num_channels: int = 0,
        encoder_block: Callable[..., nnx.Module] = EncoderBlock,
        remat: str = "none",
        rngs: nnx.Rngs,
    ) -> None:
        if (vocabulary_size > 0) == (num_channels > 0):
            raise ValueError(
                f"an encoder reads tokens or numbers: give vocabulary_size or num_channels, got {vocabulary_size} and "
                f"{num_channels}"
            )
        self.config = config
        kinds: dict[str, Any] = {"position": config.position, "max_length": config.max_length}
        if vocabulary_size:
            self.embedding = Embedding(
                vocabulary_size, config.d_model, **kinds, scale=config.scale_embedding, rngs=rngs
            )
        else:
            self.value_embedding = ValueEmbedding(num_channels, config.d_model, **kinds, rngs=rngs)
        if config.neighbourhood:
            if not vocabulary_size:
                raise ValueError(
                    f"model.neighbourhood={config.neighbourhood} is for tokens, not for numbers: set it to 0"
                )
            self.neighbourhood = Neighbourhood(vocabulary_size, config.d_model, config.neighbourhood, rngs=rngs)

        def layers(depth: int) -> Stack:
            make = lambda rngs: encoder_block(config, rngs=rngs)  # noqa: E731
            return Stack(make, depth, scan=config.scan_layers, remat=remat, rngs=rngs)

        self.local_stack = layers(config.local_layers) if config.local_layers else None
        self.stack = layers(config.num_encoder_layers - config.local_layers)
        # A post-norm stack ends normalised.
        ends = config.norm_position == "pre" and config.final_norm
        self.norm = Norm(config.norm, config.d_model) if ends else None

    def __call__(
        self, inputs: Sequences | Series, *, seed: jax.Array | None = None, embedded: jax.Array | None = None
    ) -> jax.Array:
        """Rows [B, S] or [B, S, C] encoded, [B, S, D].

        Args:
          inputs: the rows.
          seed: uint32 for dropout, one or one for each row; None for none.
          embedded: [B, S, D], in place of `embed(inputs)`, such as to differentiate by it; None for that.
        """
        config = self.config
        return encode_rows(
            self.embed(inputs) if embedded is None else embedded, inputs, self.stack, self.norm, config.dropout, seed,
            self.local_stack, config.local_window,
        )  # fmt: skip

    def embed(self, inputs: Sequences | Series) -> jax.Array:
        """What the first layer reads, before dropout, [B, S, D]: with neighbours and, where they are added, positions.

        Raises:
          ValueError: for numbers instead of tokens, or the other way round.
        """
        if isinstance(inputs, Series) != hasattr(self, "value_embedding"):
            wanted = "numbers (Series)" if hasattr(self, "value_embedding") else "tokens (Sequences)"
            raise ValueError(f"this encoder reads {wanted}, got {type(inputs).__name__}")
        if isinstance(inputs, Sequences):
            x = self.embedding(inputs.tokens, inputs.positions)
            if self.config.neighbourhood:
                x += self.neighbourhood(inputs.tokens, inputs.segment_ids)
            return x
        # Padding may hold anything, nan as well, which no mask would keep from a sum that it has a weight of 0 in.
        values = jnp.where(jnp.asarray(inputs.segment_ids)[..., None] != 0, inputs.values, 0)
        return self.value_embedding(values, inputs.positions)


class EncoderWithHeads(nnx.Module):
    """An encoder, and a head for everything that is predicted from it.

    Args:
      encoder: see `Encoder`; or another that has its `embed` and is called alike.
      heads: by name, with the interface of `nn.TokenHead`.
      part_weights: of the heads' losses, where these are learned, so that they are trained with the rest.
    """

    def __init__(
        self,
        encoder: Encoder | WordsAndPairs,
        heads: Mapping[str, nnx.Module],
        part_weights: LearnedWeights | None = None,
    ) -> None:
        self.encoder = encoder
        self.part_weights = part_weights
        self.names = tuple(sorted(heads))
        self.heads = nnx.Dict({name: heads[name] for name in self.names})

    @property
    def members(self) -> Sequence[EncoderWithHeads]:
        """This network alone; see `Ensemble`."""
        return (self,)

    def __call__(
        self, inputs: Sequences | Series, *, num_sequences: int = 1, seed: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """The outputs of every head: [B, S, E], [B, G, E] or [B, T, E].

        Args:
          inputs: rows [B, S].
          num_sequences: G, how many sequences a row may hold; of use to pooled heads.
          seed: uint32 for dropout, one or one for each row; None for none.
        """
        encoded = self.encoder(inputs, seed=seed)
        outputs = {}
        for number, name in enumerate(self.names):
            own = fold_seed(fold_seed(seed, 2), number)
            outputs[name] = self.heads[name](encoded, inputs, num_sequences=num_sequences, seed=own)
        return outputs


class Ensemble(nnx.Module):
    """Networks that begin apart, are trained side by side and predict together (Lakshminarayanan et al. 2017).

    It holds them and no more: their losses and what they believe are averaged by `tasks.labelling`, what inputs are
    worth to them by `tasks.attribution`.

    Args:
      members: which predict the same.

    Raises:
      ValueError: for none.
    """

    def __init__(self, members: Sequence[EncoderWithHeads]) -> None:
        if not members:
            raise ValueError("an ensemble without members predicts nothing: give at least one network")
        self.members = nnx.List(members)
