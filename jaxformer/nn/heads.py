"""Heads: from encoded rows to the numbers that a loss compares with labels, by position, by sequence or by forecast.

Every head is called as `head(encoded, inputs, num_sequences=G, seed=...)` and ends in a linear map to E outputs, and
`head.forward_flops(rows, length)` says what its products cost. What stands where there is padding changes no output
that is not padding itself. Not for losses (`ops`, `tasks`).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.nn.dropout import dropout
from jaxformer.nn.linear import Linear
from jaxformer.ops.dropout import dropout as drop
from jaxformer.parallel.sharding import gathered, largest, place, summed
from jaxformer.types import Sequences, Series

POOLINGS = ("cls", "mean", "attention", "convolution")

_WIDTHS, _FEATURES = (3, 4, 5), 128
"""Of the convolutions that are pooled: those of Kim 2014, section 3.1, but for his 100 features, which divide badly."""


class TokenHead(nnx.Module):
    """A prediction for every position: a linear map of what is encoded there.

    Args:
      d_model: D.
      num_outputs: E.
      dropout: rate on what is encoded.
      rngs: of the initialisation: a Glorot-uniform kernel, a bias of zeros.
    """

    def __init__(self, d_model: int, num_outputs: int, *, dropout: float = 0.0, rngs: nnx.Rngs) -> None:
        self.dropout = dropout
        self.project = Linear(d_model, num_outputs, dims=("model", "outputs"), rngs=rngs)

    def __call__(
        self, encoded: jax.Array, inputs: Sequences | Series, *, num_sequences: int = 1, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, D] to [B, S, E]; packed sequences make no difference."""
        return self.project(dropout(encoded, self.dropout, seed))

    def forward_flops(self, rows: int, length: int) -> float:
        """FLOPs of the products of one forward pass over `rows` rows of `length` slots; see `monitoring.flops`."""
        return 2.0 * rows * length * self.project.in_features * self.project.out_features


class PooledHead(nnx.Module):
    """A prediction for every sequence, from a weighted mean of its positions; zeros stand for a sequence of none.

    Args:
      d_model: D.
      num_outputs: E.
      pooling: `cls`, the first position alone, where the data may put a token of its own (Devlin et al. 2019, section
        3); `mean`, all alike; `attention`, by the softmax of a learned score (Lin et al. 2017, equation 5, without
        the hidden layer), which begins as `mean`; or `convolution`, no mean but the largest value of every feature over
        the sequence, of 128 features for every 3, 4 and 5 neighbours in it (Kim 2014, section 2), on one device.
      dropout: rate on what is pooled.
      num_channels: C, numbers of an input; these are pooled alike, and a linear map of them, zeros at first, is added
        to the prediction (Cheng et al. 2016: wide beside deep); 0 for none.
      rngs: of the initialisation, as of `TokenHead`.
    """

    def __init__(
        self,
        d_model: int,
        num_outputs: int,
        *,
        pooling: str = "mean",
        dropout: float = 0.0,
        num_channels: int = 0,
        rngs: nnx.Rngs,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r} is not one of {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.dropout = dropout
        if pooling == "attention":
            self.score = nnx.Param(jnp.zeros((d_model,)), dims=("model",))
        width = d_model
        if pooling == "convolution":
            width = len(_WIDTHS) * _FEATURES
            self.convolutions = nnx.List([
                Linear(taps * d_model, _FEATURES, dims=("model", "outputs"), rngs=rngs) for taps in _WIDTHS
            ])  # fmt: skip
        self.project = Linear(width, num_outputs, dims=("model", "outputs"), rngs=rngs)
        self.num_channels = num_channels
        if num_channels:
            self.skip = nnx.Param(jnp.zeros((num_channels, num_outputs)), dims=("channels", "outputs"))

    def __call__(
        self, encoded: jax.Array, inputs: Sequences | Series, *, num_sequences: int = 1, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, D] to [B, G, E], whole on every device that has a part of the sequences.

        Args:
          encoded: [B, S, D].
          inputs: what was encoded.
          num_sequences: G; segment g + 1 of a row is its sequence g.
          seed: uint32 for dropout, one or one for each row; None for none.
        """
        wide = encoded.astype(jnp.promote_types(encoded.dtype, jnp.float32))
        own = jnp.asarray(inputs.segment_ids)[..., None] == jnp.arange(1, num_sequences + 1)  # [B, S, G]
        shares = self._shares(wide, jnp.asarray(inputs.positions), own).astype(wide.dtype)

        def pooled(x: jax.Array) -> jax.Array:
            return summed(jnp.einsum("bsg,bsd->bgd", shares, x), "length").astype(encoded.dtype)

        features = self._largest(encoded, own) if self.pooling == "convolution" else pooled(wide)
        outputs = self.project(drop(features, self.dropout, seed))
        if not self.num_channels:
            return outputs
        real = jnp.asarray(inputs.segment_ids)[..., None] != 0
        numbers = jnp.where(real, _numbers(inputs, self.num_channels), 0).astype(wide.dtype)
        return outputs + pooled(numbers) @ gathered(self.skip[...], ("channels", "outputs"))

    def forward_flops(self, rows: int, length: int) -> float:
        """FLOPs of the products of one forward pass over `rows` rows of one sequence of `length` slots each."""
        width, outputs = self.project.in_features, self.project.out_features
        pooled: int = width * (2 if self.pooling == "attention" else 1)
        if self.pooling == "convolution":
            pooled = sum(one.in_features * one.out_features for one in self.convolutions)
        return 2.0 * rows * (length * (pooled + self.num_channels) + (width + self.num_channels) * outputs)

    def _largest(self, encoded: jax.Array, own: jax.Array) -> jax.Array:
        """[B, G, F], the largest value in each sequence of every feature of neighbours in it; 0 in a sequence of none.

        Args:
          encoded: [B, S, D].
          own: bool [B, S, G], which positions belong to which sequence.

        Raises:
          ValueError: where a device has a part of the sequences: it lacks neighbours.
        """
        if place("length")[1] > 1:
            raise ValueError("pooling=convolution needs whole sequences on every device: set --config.mesh.context=1")
        found = []
        for taps, convolve in zip(_WIDTHS, self.convolutions, strict=True):
            windows = [_neighbours(encoded, own, away) for away in range(-(taps // 2), taps - taps // 2)]
            features = jax.nn.relu(convolve(jnp.concatenate(windows, axis=-1)))
            found.append(jnp.where(own[..., None], features[:, :, None], 0).max(axis=1))
        return jnp.concatenate(found, axis=-1)

    def _shares(self, encoded: jax.Array, positions: jax.Array, own: jax.Array) -> jax.Array:
        """[B, S, G], how much each position counts in each sequence; they sum to 1 over a sequence."""
        if self.pooling == "cls":
            return own & (positions == 0)[..., None]
        if self.pooling in ("mean", "convolution"):
            lengths = summed(own.sum(axis=1, keepdims=True, dtype=encoded.dtype), "length")
            return own / jnp.maximum(lengths, 1)
        scores = (encoded @ self.score[...].astype(encoded.dtype))[..., None]
        highest = largest(jnp.where(own, scores, jnp.finfo(scores.dtype).min).max(axis=1, keepdims=True), "length")
        exponentials = jnp.exp(jnp.where(own, scores - highest, -jnp.inf))
        # The highest score has made one of them 1, if there are any.
        return exponentials / jnp.maximum(summed(exponentials.sum(axis=1, keepdims=True), "length"), 0.5)


class ChannelHead(nnx.Module):
    """A forecast of a channel from its encoded patches, all at once (Nie et al. 2023, section 3.1: the flatten head).

    Args:
      d_model: D.
      num_patches: S, of every row; one channel of one series, not packed.
      horizon: T, steps that are forecast.
      num_outputs: E, numbers for each step, such as quantiles.
      dropout: rate on what is encoded.
      patch_length: C, numbers of a patch, of which a linear map, zeros at first, is added to
        the forecast (Das et al. 2023, section 4.1: the global residual connection); 0 for none.
      rngs: of the initialisation, as of `TokenHead`.
    """

    def __init__(
        self,
        d_model: int,
        num_patches: int,
        horizon: int,
        *,
        num_outputs: int = 1,
        dropout: float = 0.0,
        patch_length: int = 0,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_patches = num_patches
        self.num_outputs = num_outputs
        self.dropout = dropout
        glorot = nnx.initializers.glorot_uniform()
        shape = (num_patches * d_model, horizon * num_outputs)
        self.kernel = nnx.Param(glorot(rngs.params(), shape, jnp.float32), dims=("model", "outputs"))
        self.bias = nnx.Param(jnp.zeros(shape[1]), dims=("outputs",))
        self.patch_length = patch_length
        if patch_length:
            self.skip = nnx.Param(jnp.zeros((num_patches * patch_length, shape[1])), dims=("channels", "outputs"))

    def __call__(
        self, encoded: jax.Array, inputs: Sequences | Series, *, num_sequences: int = 1, seed: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, D] to [B, T, E], whole on every device that has a part of the patches.

        Raises:
          ValueError: for rows of another number of patches.
        """
        batch, patches, _ = encoded.shape
        index, count = place("length")
        if patches * count != self.num_patches:
            raise ValueError(f"rows of {patches * count} patches, but the head forecasts from {self.num_patches}")
        real = jnp.asarray(inputs.segment_ids)[..., None] != 0

        def mapped(x: jax.Array, kernel: nnx.Param) -> jax.Array:
            x = jnp.where(real, x, 0).reshape(batch, -1)
            whole = gathered(kernel[...], kernel.dims)
            return x @ (jax.lax.dynamic_slice_in_dim(whole, index * x.shape[1], x.shape[1]) if count > 1 else whole)

        forecast = mapped(dropout(encoded, self.dropout, seed), self.kernel)
        if self.patch_length:
            forecast += mapped(_numbers(inputs, self.patch_length).astype(encoded.dtype), self.skip)
        return (summed(forecast, "length") + self.bias[...]).reshape(batch, -1, self.num_outputs)

    def forward_flops(self, rows: int, length: int) -> float:
        """FLOPs of the products of one forward pass over `rows` rows; `length` is the number of patches anyway."""
        inputs, outputs = self.kernel.shape
        return 2.0 * rows * (inputs + self.num_patches * self.patch_length) * outputs


def _neighbours(x: jax.Array, own: jax.Array, away: int) -> jax.Array:
    """[B, S, D], at every position what `x` [B, S, D] has so many positions later in the same sequence, or zeros."""
    shift = functools.partial(_shifted, away=away)
    same = (own & shift(own)).any(axis=-1)
    return jnp.where(same[..., None], shift(x), 0)


def _shifted(x: jax.Array, *, away: int) -> jax.Array:
    """`x` [B, S, *] read `away` positions later; zeros beyond its ends."""
    ends = [(0, 0), (max(-away, 0), max(away, 0)), *[(0, 0)] * (x.ndim - 2)]
    first = max(away, 0)
    return jnp.pad(x, ends)[:, first : first + x.shape[1]]


def _numbers(inputs: Sequences | Series, count: int) -> jax.Array:
    """The values [B, S, C] of `inputs`: `ValueError` for tokens, or another C than `count`."""
    if not isinstance(inputs, Series) or inputs.values.shape[-1] != count:
        found = f"{inputs.values.shape[-1]}" if isinstance(inputs, Series) else "tokens"
        raise ValueError(f"a head that maps its inputs reads {count} numbers at a position, got {found}")
    return jnp.asarray(inputs.values)
