"""The values that every part of jaxformer exchanges, and the legend of dimension letters.

Not for behaviour: nothing here computes anything beyond what a field implies.

Legend, used in every signature and docstring of the library:

    B  batch (rows)            N  attention heads          V  vocabulary
    S  source length           K  key/value heads          L  layers
    T  target length           H  size of one head         W  beam width
    D  model width (d_model)   F  feed-forward width       *  any leading dimensions
    C  channels of a series    G  sequences in a row       E  outputs of a head
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

Array = Any
"""A `np.ndarray` on the host or a `jax.Array` on a device: a union would ask for a cast at every border."""

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
"""Ids of the special tokens, the same in every vocabulary."""

SPELLING_SIZE = 12
"""Most pieces of a word's spelling that stand beside its token; see `data.spelling.Spelling`."""


class Pair(NamedTuple):
    """One raw sentence pair: the record that every translation source yields."""

    source: str
    target: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sequences:
    """Rows of token ids; each row holds one sequence, or several packed one after another.

    Attributes:
      tokens: int32 [B, S], token ids, 0 where there is padding. Target rows hold the *labels* (ending in the
        end-of-sentence id); decoder inputs are made from them by `ops.shift_right`. Or [B, S, 1 + SPELLING_SIZE], where
        every token is followed by how it is spelt, see `data.spelling.Spelling`; for encoders alone.
      positions: int32 [B, S], position within its own sequence, from 0, restarting at every packed sequence.
      segment_ids: int32 [B, S], 1, 2, ... for the packed sequences of a row, 0 for padding.
      weights: float32 [B, S], the weight of each token in losses and counts, 0 for padding.
    """

    tokens: Array
    positions: Array
    segment_ids: Array
    weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One frozen batch for an encoder-decoder: `source` and `target` share the row dimension B.

    When rows are packed, segment i of a source row belongs to segment i of the target row.
    """

    source: Sequences
    target: Sequences


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Series:
    """Rows of vectors of numbers: measurements, or patches of them; packed as `Sequences` are.

    Attributes:
      values: float32 [B, S, C], anything where there is padding.
      positions: int32 [B, S], position within its own sequence, from 0.
      segment_ids: int32 [B, S], 1, 2, ... for the packed sequences of a row, 0 for padding.
    """

    values: Array
    positions: Array
    segment_ids: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PositionLabels:
    """What is wanted at every position. Anything may stand where the weight is 0: padding, and what is not scored.

    Attributes:
      values: [B, S] or [B, S, E]: classes (int32), or numbers.
      weights: float32 [B, S], the weight of each position in losses and metrics.
    """

    values: Array
    weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowLabels:
    """What is wanted of whole sequences: of rows, so that devices which split sequences have them whole.

    Attributes:
      values: [B, G] or [B, G, E]: of each of the G sequences that a row may hold (1 where none are packed), classes
        (int32) or numbers; or [B, T], a forecast's T steps.
      weights: float32 [B, G] or [B, T], 0 where there is no such sequence, or its label is not known.
    """

    values: Array
    weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LabelledBatch:
    """One frozen batch for an encoder: inputs, and what is wanted of them by name; all share the row dimension B."""

    inputs: Sequences | Series
    labels: Mapping[str, PositionLabels | RowLabels]


class Mean(NamedTuple):
    """A masked mean that is not divided yet: merge by adding both parts, divide once at the end.

    Attributes:
      sum: scalar, the weighted sum.
      weight: scalar, the total weight.
    """

    sum: Array
    weight: Array

    def __add__(self, other: object) -> Mean:
        if not isinstance(other, Mean):
            return NotImplemented
        return Mean(self.sum + other.sum, self.weight + other.weight)

    def value(self) -> float:
        """The mean as a Python float; nan when nothing was counted."""
        weight = float(self.weight)
        return float(self.sum) / weight if weight else float("nan")


@dataclasses.dataclass(frozen=True)
class Shards:
    """How the operands of an op are split over the devices of a mesh: logical dimension -> names of mesh axes.

    Attributes:
      mesh: with the axes below.
      batch: axes that split B.
      heads: axes that split N and K.
      vocabulary: axes that split V.
    """

    mesh: jax.sharding.Mesh
    batch: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()

    def check(self, what: str, size: int, axes: tuple[str, ...]) -> None:
        """Refuses `size`, of `what`, if it does not divide over the devices along `axes`.

        Raises:
          ValueError: with the nearest sizes that do.
        """
        parts = math.prod(self.mesh.shape[axis] for axis in axes)
        if size % parts:
            near = ", ".join(str(number) for number in (size // parts * parts, -(-size // parts) * parts) if number)
            raise ValueError(f"{size} {what} do not divide over {parts} devices ({' x '.join(axes)}): use {near}")
