"""The training step in plain JAX: Flax's own layers and dropout, optax's loss over all the logits, one `jax.jit`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.peers.work import Sizes, Work


class _Layer(nnx.Module):
    def __init__(self, sizes: Sizes, cross: bool, rngs: nnx.Rngs) -> None:
        def attention() -> nnx.MultiHeadAttention:
            return nnx.MultiHeadAttention(
                sizes.num_heads, sizes.d_model, dropout_rate=sizes.dropout, broadcast_dropout=False,
                decode=False, rngs=rngs,
            )

        self.attention = attention()
        self.cross = attention() if cross else None
        self.norms = nnx.List([nnx.LayerNorm(sizes.d_model, rngs=rngs) for _ in range(3 if cross else 2)])
        self.expand = nnx.Linear(sizes.d_model, sizes.d_ff, rngs=rngs)
        self.contract = nnx.Linear(sizes.d_ff, sizes.d_model, rngs=rngs)
        self.dropout = nnx.Dropout(sizes.dropout, rngs=rngs)

    def __call__(
        self, x: jax.Array, mask: jax.Array, memory: jax.Array | None = None, memory_mask: jax.Array | None = None
    ) -> jax.Array:
        norms = iter(self.norms)
        x += self.dropout(self.attention(next(norms)(x), mask=mask))
        if self.cross is not None:
            x += self.dropout(self.cross(next(norms)(x), memory, mask=memory_mask))
        hidden = self.dropout(nnx.relu(self.expand(next(norms)(x))))
        return x + self.dropout(self.contract(hidden))


class Seq2Seq(nnx.Module):
    """Embeddings with positions, pre-norm layers, output tied to the embeddings."""

    def __init__(self, work: Work, rngs: nnx.Rngs) -> None:
        sizes = work.sizes
        self.embedding = nnx.Embed(sizes.vocabulary, sizes.d_model, rngs=rngs)
        self.dropout = nnx.Dropout(sizes.dropout, rngs=rngs)
        self.encoder = nnx.List([_Layer(sizes, False, rngs) for _ in range(sizes.encoder_layers)])
        self.decoder = nnx.List([_Layer(sizes, True, rngs) for _ in range(sizes.decoder_layers)])
        self.encoder_norm = nnx.LayerNorm(sizes.d_model, rngs=rngs)
        self.decoder_norm = nnx.LayerNorm(sizes.d_model, rngs=rngs)
        self.positions = np.asarray(work.positions)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """[B, S] to [B, S, D]."""
        x = self.embedding(tokens) * self.embedding.features**0.5
        return self.dropout(x + self.positions[: tokens.shape[1]])

    def __call__(self, source: jax.Array, inputs: jax.Array) -> jax.Array:
        """Logits [B, T, V]."""
        real = source != 0
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, nnx.make_attention_mask(real, real))
        memory = self.encoder_norm(x)
        x = self.embed(inputs)
        for layer in self.decoder:
            x = layer(x, nnx.make_causal_mask(inputs), memory, nnx.make_attention_mask(inputs >= 0, real))
        return self.embedding.attend(self.decoder_norm(x))


def _set(model: Seq2Seq, work: Work) -> None:
    """Gives `model` jaxformer's parameters."""
    given = work.plain_params

    def split(value: np.ndarray, parts: int) -> list[jax.Array]:
        heads = (work.sizes.num_heads, work.sizes.d_model // work.sizes.num_heads)
        return [jnp.asarray(part.reshape(*part.shape[:-1], *heads)) for part in np.split(value, parts, axis=-1)]

    def attention(theirs: Any, name: str, fused: dict[str, tuple[str, ...]]) -> None:
        for ours, parts in fused.items():
            for leaf in ("kernel", "bias"):
                for part, value in zip(parts, split(given[f"{name}.{ours}.{leaf}"], len(parts)), strict=True):
                    getattr(getattr(theirs, part), leaf)[...] = value
        theirs.out.kernel[...] = jnp.asarray(given[f"{name}.output.kernel"].reshape(theirs.out.kernel.shape))
        theirs.out.bias[...] = jnp.asarray(given[f"{name}.output.bias"])

    def copy(theirs: Any, name: str, *leaves: str) -> None:
        for leaf in leaves:
            getattr(theirs, leaf)[...] = jnp.asarray(given[f"{name}.{leaf}"])

    model.embedding.embedding[...] = jnp.asarray(given["target_embedding.table"])
    for stack in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(model, stack)):
            name = f"{stack}.layers.{i}"
            attention(layer.attention, f"{name}.attention", {"query_key_value": ("query", "key", "value")})
            subs = ["attention", "feed_forward"]
            if layer.cross is not None:
                attention(
                    layer.cross, f"{name}.cross_attention", {"query": ("query",), "key_value": ("key", "value")}
                )
                subs.insert(1, "cross_attention")
            for norm, sub in zip(layer.norms, subs, strict=True):
                copy(norm, f"{name}.{sub}_residual.norm", "scale", "bias")
            copy(layer.expand, f"{name}.feed_forward.expand", "kernel", "bias")
            copy(layer.contract, f"{name}.feed_forward.contract", "kernel", "bias")
        copy(getattr(model, f"{stack}_norm"), f"{stack}_norm", "scale", "bias")


class PlainTraining:
    """A peer; see `Work`."""

    def __init__(self, work: Work) -> None:
        model = Seq2Seq(work, nnx.Rngs(params=0, dropout=1))
        _set(model, work)
        model.train()
        sizes = work.sizes
        adam = optax.adam(sizes.learning_rate, sizes.b1, sizes.b2, sizes.eps)
        self.optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
        self.model = model
        self.batches = [jax.device_put(batch) for batch in work.batches]

        def loss(model: Seq2Seq, batch: tuple[jax.Array, ...]) -> jax.Array:
            source, inputs, labels = batch
            wanted = optax.smooth_labels(jax.nn.one_hot(labels, sizes.vocabulary), sizes.label_smoothing)
            each = optax.softmax_cross_entropy(model(source, inputs), wanted)
            weights = labels != 0
            return (each * weights).sum() / weights.sum()

        @nnx.jit
        def step(model: Seq2Seq, optimizer: nnx.Optimizer, batch: tuple[jax.Array, ...]) -> jax.Array:
            value, gradient = nnx.value_and_grad(loss)(model, batch)
            optimizer.update(model, gradient)
            return value

        self.loss, self.step = loss, step

    def check(self) -> dict[str, float]:
        """See `Peer`."""
        model = nnx.clone(self.model)
        model.eval()
        value, gradient = nnx.value_and_grad(self.loss)(model, self.batches[0])
        return {"loss": float(value), "gradient": float(optax.tree.norm(gradient))}

    def steps(self) -> None:
        """See `Peer`."""
        for batch in self.batches:
            value = self.step(self.model, self.optimizer, batch)
        jax.block_until_ready((value, nnx.state(self.model)))
