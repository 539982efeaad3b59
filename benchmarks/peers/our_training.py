"""The training step of jaxformer, as the trainer runs it, on the work of the benchmark."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from benchmarks.peers.work import Sizes, Work
from jaxformer.config import Config, replace
from jaxformer.parallel.mesh import host_share, make_layout, place_batch
from jaxformer.parallel.rows import gradients_over_rows
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training import make_optimizer, make_train_step
from jaxformer.training.state import create_state
from jaxformer.types import Batch, Sequences


class Vocabulary:
    """A vocabulary of a given size, without any text behind it."""

    def __init__(self, size: int) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = size


def config_of(sizes: Sizes, precision: str = "fp32") -> Config:
    """jaxformer's configuration for the sizes."""
    model = {
        "d_model": sizes.d_model, "d_ff": sizes.d_ff, "num_heads": sizes.num_heads,
        "num_encoder_layers": sizes.encoder_layers, "num_decoder_layers": sizes.decoder_layers,
        "dropout": sizes.dropout, "attention_dropout": sizes.dropout, "activation_dropout": sizes.dropout,
    }
    optimizer = {
        "name": "adam", "schedule": "constant", "warmup_steps": 0, "learning_rate": sizes.learning_rate,
        "b1": sizes.b1, "b2": sizes.b2, "eps": sizes.eps,
    }
    training = {"label_smoothing": sizes.label_smoothing, "ema_decay": 0.0}
    return replace(Config(), {"model": model, "optimizer": optimizer, "training": training, "precision": precision})


def sizes_of(config: Config, vocabulary: int) -> Sizes:
    """The sizes of a configuration's network, without dropout."""
    model, optimizer = config.model, config.optimizer
    return Sizes(
        vocabulary, model.d_model, model.d_ff, model.num_heads, model.num_encoder_layers, model.num_decoder_layers,
        0.0, 0.0, optimizer.learning_rate, optimizer.b1, optimizer.b2, optimizer.eps,
    )


def named(params: nnx.State) -> dict[str, np.ndarray]:
    """Parameters by path, for `Work.params`."""
    return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(params)}


def initial_params(sizes: Sizes) -> dict[str, np.ndarray]:
    """jaxformer's initial parameters by path."""
    return named(TranslationTask(config_of(sizes), Vocabulary(sizes.vocabulary)).init_params(0))


def _batch(source: np.ndarray, labels: np.ndarray) -> Batch:
    def side(tokens: np.ndarray) -> Sequences:
        real = tokens != 0
        positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
        return Sequences(tokens, positions, real.astype(np.int32), real.astype(np.float32))

    return Batch(side(source), side(labels))


class OurTraining:
    """A peer; see `Work`. In one of several processes it takes its share of the rows of every batch."""

    def __init__(self, work: Work, *, precision: str = "fp32") -> None:
        config = config_of(work.sizes, precision)
        self.layout = make_layout(config.mesh) if jax.process_count() > 1 else None
        self.task = TranslationTask(config, Vocabulary(work.sizes.vocabulary), self.layout)
        optimizer = make_optimizer(config.optimizer, 1)
        self.step: Any = make_train_step(self.task.loss_function, optimizer, layout=self.layout)
        params = self.task.init_params(0)
        flat = [(path, leaf.replace(work.params[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(params)]
        given = nnx.from_flat_state(flat)
        if self.layout is None:
            given = jax.device_put(given)
        self.state = create_state(given, optimizer, seed=0, ema=False, layout=self.layout)
        self.batches = [self._placed(_batch(source, labels)) for source, _, labels in work.batches]

    def _placed(self, batch: Batch) -> Batch:
        if self.layout is None:
            return jax.device_put(batch)
        index, count = host_share(self.layout)
        size = len(batch.source.tokens) // count
        return place_batch(jax.tree.map(lambda leaf: leaf[index * size : (index + 1) * size], batch), self.layout)

    def check(self) -> dict[str, float]:
        """See `Peer`."""

        def sums(params: nnx.State, _: Any, batch: Batch) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            def total(params: nnx.State) -> tuple[jax.Array, jax.Array]:
                loss, _ = self.task.loss(self.task.model(params), batch, None)
                return loss.sum, loss.weight

            (value, weight), gradient = jax.value_and_grad(total, has_aux=True)(params)
            return gradient, (value, weight)

        @jax.jit
        def means(params: nnx.State, batch: Batch) -> tuple[jax.Array, jax.Array]:
            gradient, (value, weight) = gradients_over_rows(sums, self.layout)(params, (), batch)
            return value / weight, optax.tree.norm(gradient) / weight

        value, norm = means(self.state.params, self.batches[0])
        return {"loss": float(value), "gradient": float(norm)}

    def steps(self) -> None:
        """See `Peer`."""
        for batch in self.batches:
            self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready((self.state, metrics))
