"""What tagging, classification and forecasting share: an encoder, a head for every part, and the parts' losses as one.

Not for which head a part has: `tagging`, `classification` and `forecasting` say that.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.config import Config, nearest
from jaxformer.models import Encoder, EncoderWithHeads, Ensemble, WordsAndPairs, linear_parts
from jaxformer.nn import LearnedWeights
from jaxformer.ops import fold_seed, weighted_total
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.sharding import counted_once
from jaxformer.tasks.hiding import hidden_shares, hidden_tokens
from jaxformer.tasks.objectives import Objective, check_together
from jaxformer.tasks.task import Metrics, ModelTask, abstract_sequences
from jaxformer.types import SPELLING_SIZE, LabelledBatch, Mean, PositionLabels, RowLabels, Sequences, Series

PartWeights = Mapping[str, float] | Literal["learned"] | None


class LabellingTask(ModelTask[EncoderWithHeads | Ensemble, LabelledBatch]):
    """An encoder, or an ensemble of them, that predicts one thing or several; see `ModelTask`.

    Args:
      config: of the run; `model`, `precision`, `memory.remat` and, of `task`, `token_dropout`, `vary_token_dropout`,
        `members` and `linear_members` are read.
      objectives: what is predicted, by name: that of its labels in a batch.
      vocabulary_size, num_channels: what the encoder reads; see `models.Encoder`.
      spelling: buckets of n-grams, where tokens come with their spelling (`types.Sequences`); 0 for none.
      part_weights: of several losses: numbers by name, `learned` (by uncertainty, see `nn.LearnedWeights`), or None for
        1 each.
      layout: over which devices a loss is evaluated; None for one.

    Attributes:
      abstract_members: the networks, with shapes in place of numbers.

    Raises:
      ValueError: for no objectives, weights of others, spellings that cannot be, linear members of something else than
        labels of whole sequences of tokens, or several networks that cannot be measured together.
    """

    label_type: type[PositionLabels] | type[RowLabels]

    def __init__(
        self,
        config: Config,
        objectives: Mapping[str, Objective],
        *,
        vocabulary_size: int = 0,
        num_channels: int = 0,
        spelling: int = 0,
        part_weights: PartWeights = None,
        layout: Layout | None = None,
    ) -> None:
        if not objectives:
            raise ValueError("nothing is predicted: give at least one objective")
        self.objectives = dict(sorted(objectives.items()))
        self.vocabulary_size, self.num_channels, self.spelling = vocabulary_size, num_channels, spelling
        self._check_spelling(config)
        if config.task.linear_members and (num_channels or self.label_type is not RowLabels):
            raise ValueError(
                f"task.linear_members={config.task.linear_members} add up words, for labels of whole sequences of "
                "tokens: set --config.task.linear_members=0"
            )
        if config.task.members + config.task.linear_members > 1:
            check_together(objectives)
        self._learned = part_weights == "learned"
        given = {} if part_weights is None or isinstance(part_weights, str) else part_weights
        for name in given:
            if name not in objectives:
                raise ValueError(f"part_weights has {name!r}, which is not predicted: {nearest(name, objectives)}")
        if isinstance(part_weights, str) and not self._learned:
            raise ValueError(f"part_weights {part_weights!r} is not known: give numbers by name, or 'learned'")
        self._given = {name: given.get(name, 1.0) for name in self.objectives}
        super().__init__(config, layout)
        self.abstract_members = nnx.merge(self._graph, self._abstract).members
        self._predict = jax.jit(self._predictions, static_argnums=2)

    @abc.abstractmethod
    def make_head(self, objective: Objective, rngs: nnx.Rngs) -> nnx.Module:
        """A head for one part."""

    def make_encoder(self, rngs: nnx.Rngs) -> Encoder:
        """The encoder; override it to use other blocks."""
        return Encoder(
            self.config.model,
            vocabulary_size=self.vocabulary_size + self.spelling,
            num_channels=self.num_channels,
            remat=self.config.memory.remat,
            rngs=rngs,
        )

    def init_model(self, rngs: nnx.Rngs) -> EncoderWithHeads | Ensemble:
        """New networks, and classifiers without layers, as many as `task` says, with random parameters in float32."""
        task = self.config.task
        members = [self._new_network(rngs) for _ in range(task.members)]
        members += [self._new_linear_member() for _ in range(task.linear_members)]
        return members[0] if len(members) == 1 else Ensemble(members)

    def _new_network(self, rngs: nnx.Rngs) -> EncoderWithHeads:
        encoder = self.make_encoder(rngs)  # draws before the heads
        return self._member(encoder, {name: self.make_head(one, rngs) for name, one in self.objectives.items()})

    def _new_linear_member(self) -> EncoderWithHeads:
        outputs = {name: objective.num_outputs for name, objective in self.objectives.items()}
        return self._member(*linear_parts(self.vocabulary_size, outputs))

    def _member(self, encoder: Encoder | WordsAndPairs, heads: Mapping[str, nnx.Module]) -> EncoderWithHeads:
        factors = {name: objective.likelihood_factor for name, objective in self.objectives.items()}
        return EncoderWithHeads(encoder, heads, LearnedWeights(factors) if self._learned else None)

    def num_sequences(self, labels: PositionLabels | RowLabels) -> int:
        """G, how many sequences a row may hold, by the labels of one part."""
        return 1

    def label_places(self, rows: int, length: int) -> tuple[int, ...]:
        """The shape of the weights of labels for rows of `length` slots: [B, S], [B, G] or [B, T]."""
        return (rows, length) if self.label_type is PositionLabels else (rows, 1)

    def head_flops(self, rows: int, length: int) -> float:
        """FLOPs of the products of all heads in one forward pass over `rows` rows of `length` slots.

        A head without `forward_flops` counts for nothing.
        """
        heads = (head for member in self.abstract_members for head in member.heads.values())
        counts = (getattr(head, "forward_flops", None) for head in heads)
        return float(sum(count(rows, length) for count in counts if count is not None))

    def abstract_batch(self, shape: tuple[int, int, int]) -> LabelledBatch:
        """The shapes of a batch of rows and input slots; one sequence a row, where labels are of sequences."""
        rows, length, _ = shape
        inputs: Sequences | Series = abstract_sequences(rows, length, pieces=1 + SPELLING_SIZE if self.spelling else 0)
        if self.num_channels:
            values = jax.ShapeDtypeStruct((rows, length, self.num_channels), jnp.float32)
            inputs = Series(values, inputs.positions, inputs.segment_ids)
        places = self.label_places(rows, length)
        weights = jax.ShapeDtypeStruct(places, jnp.float32)
        wanted = {name: objective.abstract_labels(places) for name, objective in self.objectives.items()}
        return LabelledBatch(inputs, {name: self.label_type(values, weights) for name, values in wanted.items()})

    def outputs(
        self, model: EncoderWithHeads, inputs: Sequences | Series, num_sequences: int, seed: jax.Array | None
    ) -> dict[str, jax.Array]:
        """The outputs of every head, as objectives take them.

        Raises:
          ValueError: for tokens without the spelling that they should have, or with one.
        """
        self._check_tokens(inputs)
        return model(inputs, num_sequences=num_sequences, seed=seed)

    def loss(
        self, model: EncoderWithHeads | Ensemble, batch: LabelledBatch, seed: jax.Array | None
    ) -> tuple[Mean, Metrics]:
        """The loss of all parts of `batch`, undivided; the mean of all members, each with dropout of its own.

        Args:
          model: the network.
          batch: inputs, and labels for each part.
          seed: uint32 for dropout, one or one for each row; None for none.

        Returns:
          The loss, and the objective's metrics; of several parts under names such as `movement/accuracy`, with the
          loss of all as `loss` and, where they are learned, weights such as `movement/weight`. With `seed` None,
          as in validation, metrics other than losses are of what all members believe together, see `predict`.
        """
        self._check(batch)
        members = model.members
        if len(members) == 1:
            outputs = self._outputs_of(members[0], batch, seed, self.config.task.token_dropout)
            return self._loss_of(members[0], self._sums(outputs, batch))
        shares = hidden_shares(self.config.task, len(members))
        each = [
            self._outputs_of(member, batch, fold_seed(seed, number), share)
            for number, (member, share) in enumerate(zip(members, shares, strict=True))
        ]
        found = [self._loss_of(member, self._sums(one, batch)) for member, one in zip(members, each, strict=True)]
        loss, metrics = jax.tree.map(lambda *values: sum(values) / len(values), *found)
        return loss, metrics if seed is not None else metrics | self._metrics_together(each, batch)

    def _outputs_of(
        self, model: EncoderWithHeads, batch: LabelledBatch, seed: jax.Array | None, hidden: float
    ) -> dict[str, jax.Array]:
        number, inputs = self.num_sequences(next(iter(batch.labels.values()))), batch.inputs
        if hidden and seed is not None and isinstance(inputs, Sequences):
            inputs = hidden_tokens(inputs, hidden, seed)
        return self.outputs(model, inputs, number, seed)

    def _sums(self, outputs: Mapping[str, jax.Array], batch: LabelledBatch) -> dict[str, Metrics]:
        """What the objective of each part makes of the outputs for it."""
        found = {}
        for name, objective in self.objectives.items():
            labels = batch.labels[name]
            weights = jnp.asarray(labels.weights)
            if isinstance(labels, RowLabels):
                weights = counted_once(weights, "length")
            found[name] = objective.sums(outputs[name], jnp.asarray(labels.values), weights)
        return found

    def _named(self, found: Mapping[str, Metrics]) -> Metrics:
        """The metrics of all parts in one: of several under the names of their parts."""
        if len(found) == 1 and not self._learned:
            (alone,) = found.values()
            return alone
        return {f"{name}/{metric}": mean for name, part in found.items() for metric, mean in part.items()}

    def _loss_of(self, model: EncoderWithHeads, found: Mapping[str, Metrics]) -> tuple[Mean, Metrics]:
        metrics = self._named(found)
        if "loss" in metrics:  # of one part
            return metrics["loss"], metrics
        losses = {name: part["loss"] for name, part in found.items()}
        if model.part_weights is None:
            total = weighted_total(losses, self._given)
        else:
            total = model.part_weights(losses)
            one = jnp.ones(())
            metrics |= {f"{name}/weight": Mean(weight, one) for name, weight in model.part_weights.weights().items()}
        return total, metrics | {"loss": total}

    def _metrics_together(self, each: Sequence[Mapping[str, jax.Array]], batch: LabelledBatch) -> Metrics:
        """Of what members with these outputs believe together; without losses, since each member has its own."""
        believed = self._believed(each)
        outputs = {name: objective.outputs_for(believed[name]) for name, objective in self.objectives.items()}
        metrics = self._named(self._sums(outputs, batch))
        return {name: mean for name, mean in metrics.items() if name.rpartition("/")[2] != "loss"}

    def _check_spelling(self, config: Config) -> None:
        if self.spelling < 0:
            raise ValueError(f"spelling must be 0, for none, or a number of buckets, got {self.spelling}")
        if self.spelling and config.model.neighbourhood:
            raise ValueError(
                f"spelling={self.spelling} and model.neighbourhood={config.model.neighbourhood} do not go together: "
                "set one of them to 0"
            )

    def _check_tokens(self, inputs: Sequences | Series) -> None:
        if not isinstance(inputs, Sequences):
            return
        shape = jnp.shape(inputs.tokens)
        if self.spelling and (len(shape) != 3 or shape[-1] != 1 + SPELLING_SIZE):
            raise ValueError(
                f"tokens are {list(shape)}, but with spelling={self.spelling} each has its spelling beside it, [B, S, "
                f"{1 + SPELLING_SIZE}]: make rows by a TextEncoder with data.spelling={self.spelling}, or give the "
                "task spelling=0"
            )
        if not self.spelling and len(shape) != 2:
            raise ValueError(
                f"tokens are {list(shape)}, but without spelling they are [B, S]: give the task spelling=N, the "
                "buckets of data.spelling, or tokens[..., 0]"
            )

    def _check(self, batch: LabelledBatch) -> None:
        self._check_tokens(batch.inputs)
        if set(batch.labels) != set(self.objectives):
            raise ValueError(
                f"the batch has labels for {', '.join(sorted(batch.labels)) or 'nothing'}, but "
                f"{', '.join(self.objectives)} are predicted: give labels for these, of weight 0 where they are unknown"
            )
        for name, labels in batch.labels.items():
            if not isinstance(labels, self.label_type):
                raise ValueError(
                    f"labels of {name!r} are {type(labels).__name__}, but {type(self).__name__} takes "
                    f"{self.label_type.__name__}"
                )

    def predict(
        self, params: nnx.State, inputs: Sequences | Series, *, num_sequences: int = 1
    ) -> dict[str, jax.Array]:
        """What is believed of each part: see the objective's `predict`; the mean of all members, without dropout.

        Args:
          params: of the network.
          inputs: rows [B, S], on one device.
          num_sequences: G, how many sequences a row may hold.
        """
        return self._predict(params, inputs, num_sequences)

    def _predictions(
        self, params: nnx.State, inputs: Sequences | Series, num_sequences: int
    ) -> dict[str, jax.Array]:
        members = self.model(params).members
        return self._believed([self.outputs(member, inputs, num_sequences, None) for member in members])

    def _believed(self, each: Sequence[Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
        """The mean over members of what is believed of each part, from the outputs of each."""
        return {
            name: jnp.stack([objective.predict(one[name]) for one in each]).mean(axis=0)
            for name, objective in self.objectives.items()
        }
