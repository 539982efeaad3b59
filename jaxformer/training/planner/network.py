"""Kinds of networks as the planner's closed forms see them: layers, products, exchanges, and what stands around layers.

The rest of a step is the same for all kinds: rows and positions, parameters and their state. Not for a device's share
of any of it (`share`).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxformer.config import ModelConfig
from jaxformer.models import SumHead
from jaxformer.monitoring.flops import encoder_flops, forward_flops
from jaxformer.nn import ChannelHead, PooledHead
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.traffic import Exchange, Part, Step, encoder_exchanges, exchanges
from jaxformer.tasks.labelling import LabellingTask
from jaxformer.tasks.translation import TranslationTask


class Products(NamedTuple):
    """FLOPs of the matrix products of one forward pass.

    Attributes:
      layers: linear maps of layers.
      attention: scores and weighted sums, with those that a causal mask hides.
      output: logits of a vocabulary.
      ends: what is not split along `tensor`: heads, and embeddings that are products.
    """

    layers: float
    attention: float
    output: float = 0.0
    ends: float = 0.0


class Network(abc.ABC):
    """What a step computes, without the devices.

    Attributes:
      encoder_layers, decoder_layers: of each stack; of an ensemble those of all members together.
      members: networks side by side that are trained together.
      vocabulary: pieces that logits are computed for; 0 for none.
    """

    members = 1
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    @property
    def depth(self) -> int:
        """Layers of both stacks."""
        return self.encoder_layers + self.decoder_layers

    @abc.abstractmethod
    def check(self, layout: Layout) -> None:
        """Refuses a layout that the network cannot be split over, though its parameters can: `ValueError`."""

    @abc.abstractmethod
    def kept_at_ends(self, length: int) -> float:
        """Numbers that a backward pass needs of a row of `length` slots outside of layers; logits are not kept."""

    def slots(self, batch: tuple[int, int, int]) -> int:
        """What a batch of rows, source slots and target slots holds: target slots, or those of the only side."""
        rows, source, target = batch
        return rows * (target or source)

    @abc.abstractmethod
    def target_slots(self, length: int) -> int:
        """Of the longest rows, whose other side has `length` slots."""

    @abc.abstractmethod
    def products(self, rows: int, source: int, target: int) -> Products:
        """Of whole rows, on one device."""

    @abc.abstractmethod
    def exchanges(
        self, layout: Layout, parts: Sequence[Part], step: Step, shape: tuple[int, int, int]
    ) -> list[Exchange]:
        """See `parallel.traffic`; `shape` is that of a device's part of a micro-batch."""


class TranslationNetwork(Network):
    """A translation's network.

    Args:
      model: its sizes.
      vocabulary: V of the target.
    """

    def __init__(self, model: ModelConfig, vocabulary: int) -> None:
        self._model = model
        self.encoder_layers, self.decoder_layers = model.num_encoder_layers, model.num_decoder_layers
        self.vocabulary = vocabulary

    def check(self, layout: Layout) -> None:
        """Nothing: what divides its parameters divides the rest."""

    def kept_at_ends(self, length: int) -> float:
        """Nothing that counts beside layers and logits."""
        return 0.0

    def target_slots(self, length: int) -> int:
        """As many."""
        return length

    def products(self, rows: int, source: int, target: int) -> Products:
        """Plain attention computes the scores that a causal mask hides, which `forward_flops` leaves out."""
        parts = forward_flops(self._model, self.vocabulary, rows, source, target)
        hidden = 4.0 * rows * self._model.d_model * self.decoder_layers * target * target / 2
        return Products(parts["encoder"] + parts["decoder"], parts["attention"] + hidden, output=parts["output"])

    def exchanges(
        self, layout: Layout, parts: Sequence[Part], step: Step, shape: tuple[int, int, int]
    ) -> list[Exchange]:
        """Of both stacks."""
        return exchanges(layout, parts, step, shape)


class LabellingNetwork(Network):
    """A labelling task's network, or its ensemble.

    Members without layers count for their parameters and what their heads sum, and heads of other kinds than those of
    `nn` for the FLOPs that they say they have.

    Args:
      task: with its parameters.
    """

    vocabulary = decoder_layers = 0

    def __init__(self, task: LabellingTask) -> None:
        self._model, self._task = task.config.model, task
        self.members = task.config.task.members
        self._heads = [head for member in task.abstract_members for head in member.heads.values()]
        self.encoder_layers = self.members * self._model.num_encoder_layers

    def check(self, layout: Layout) -> None:
        """Convolutions need all of a sequence, and patches of a forecast are divided evenly."""
        parts = layout.parts("length")
        for head in self._heads:
            if parts > 1 and isinstance(head, PooledHead) and head.pooling == "convolution":
                raise ValueError(
                    f"task.pooling=convolution needs whole sequences on a device, not parts of mesh.context={parts}: "
                    "set --config.mesh.context=1"
                )
            if isinstance(head, ChannelHead) and head.num_patches % parts:
                raise ValueError(
                    f"rows of {head.num_patches} patches do not divide over mesh.context={parts} devices: set "
                    f"--config.mesh.context={math.gcd(head.num_patches, parts)}"
                )

    def kept_at_ends(self, length: int) -> float:
        """What enters heads and the last norm, and the one-hot vectors of neighbours."""
        width, around = self._model.d_model, 2 * self._model.neighbourhood * self._task.vocabulary_size
        norms = width if self._model.norm_position == "pre" and self._model.final_norm else 0
        heads = sum(_kept_by(head, width) for head in self._heads)
        return float(length * (self.members * (around + norms) + heads))

    def target_slots(self, length: int) -> int:
        """None: there is no other side."""
        return 0

    def products(self, rows: int, source: int, target: int) -> Products:
        """With the product that finds what stands around a token, and the scores that a local window hides."""
        everywhere = dataclasses.replace(self._model, local_layers=0)  # plain attention computes them
        parts = encoder_flops(everywhere, rows, source, members=self.members)
        inputs = self._task.num_channels or 2 * self._model.neighbourhood * self._task.vocabulary_size
        embeddings = 2.0 * self.members * rows * source * inputs * self._model.d_model
        ends = embeddings + self._task.head_flops(rows, source)
        return Products(parts["encoder"], parts["attention"], ends=ends)

    def exchanges(
        self, layout: Layout, parts: Sequence[Part], step: Step, shape: tuple[int, int, int]
    ) -> list[Exchange]:
        """Of all members, and what their heads sum over the positions of a row."""
        rows, length, _ = shape
        channels, width = self._task.num_channels, self._model.d_model
        pooled, forecast = 0, 0
        for head in self._heads:
            if isinstance(head, PooledHead):
                pooled += width + head.num_channels
            elif isinstance(head, SumHead):
                pooled += head.bias.size
            elif isinstance(head, ChannelHead):
                forecast += head.bias.size
        return encoder_exchanges(
            layout, parts, step, (rows, length), tokens=not channels, pooled=pooled, forecast=forecast,
            members=self.members,
        )  # fmt: skip


def _kept_by(head: Any, width: int) -> int:
    """Numbers of a position that the backward pass of a head needs: what it multiplies by, or compares."""
    if isinstance(head, SumHead):
        return 0
    if isinstance(head, PooledHead) and head.pooling == "convolution":
        # Features, the positive ones, those of real positions, and their gradients, which come before the layers'.
        return sum(one.in_features + 4 * one.out_features for one in head.convolutions)
    return width


def network_of(task: Any) -> Network:
    """That of a task.

    Raises:
      ValueError: for a task of a kind that no closed form knows.
    """
    if isinstance(task, TranslationTask):
        return TranslationNetwork(task.config.model, task.tokenizer.target_vocabulary_size)
    if isinstance(task, LabellingTask):
        return LabellingNetwork(task)
    raise ValueError(
        f"the planner knows what translation, tagging, classification and forecasting cost, not {type(task).__name__}: "
        "there is no --mode=plan of it, and it trains with --config.mesh.auto=false and a number of slots, such as "
        "--config.data.batch_tokens=4096"
    )
