"""What may be predicted at a place - one class of several, yes or no, a number, quantiles - with its loss and metrics.

An objective turns the E outputs of a head into undivided sums, and into what a person wants to see. Not for where the
prediction stands (heads) nor for what is predicted together with it (`ops.multi_task`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxformer import ops
from jaxformer.tasks.task import Metrics
from jaxformer.types import Mean


class Objective(Protocol):
    """What a task needs to know of one thing that it predicts."""

    @property
    def num_outputs(self) -> int:
        """E, how many numbers the head gives."""

    @property
    def likelihood_factor(self) -> float:
        """The loss times this is a negative log-likelihood of unit scale, up to a constant.

        What other scales make of it is in `ops.uncertainty_total`.
        """

    def abstract_labels(self, places: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Shape and type of labels for `places` [*]."""

    def sums(self, outputs: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
        """`loss`, the part with a gradient, and other metrics, of outputs [*, E] and labels with weights [*]."""

    def predict(self, outputs: jax.Array) -> jax.Array:
        """What is believed, from outputs [*, E]."""

    def outputs_for(self, believed: jax.Array) -> jax.Array:
        """Outputs from which just this would be believed, so that `sums` can tell how good several are together."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """One of several classes: softmax cross-entropy; labels are int32 [*].

    Attributes:
      num_classes: E.
      class_weights: how much a label of each class counts in the loss, which is divided by their sum; empty for alike.
        Other metrics weigh all alike. Beside other parts, weights around 1 keep the balance of the parts.
      label_smoothing: see `ops.cross_entropy`.
    """

    num_classes: int
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, got {self.num_classes}")
        if self.class_weights and len(self.class_weights) != self.num_classes:
            raise ValueError(f"{len(self.class_weights)} class_weights do not fit num_classes={self.num_classes}")
        if any(not weight > 0 for weight in self.class_weights):
            raise ValueError(f"class_weights must be greater than 0, got {self.class_weights}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, got {self.label_smoothing}")

    @property
    def num_outputs(self) -> int:
        """E."""
        return self.num_classes

    @property
    def likelihood_factor(self) -> float:
        """1: the loss is a negative log-likelihood."""
        return 1.0

    def abstract_labels(self, places: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Shape and type of labels for `places` [*]."""
        return jax.ShapeDtypeStruct(places, jnp.int32)

    def sums(self, outputs: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
        """`loss`, `nll` (without smoothing and class weights), `accuracy`."""
        alike = ops.cross_entropy(outputs, labels, weights, label_smoothing=self.label_smoothing)
        total = weights.sum()
        metrics = {"nll": Mean(alike.nll, total), "accuracy": Mean(alike.correct, total)}
        if not self.class_weights:
            return metrics | {"loss": Mean(alike.loss, total)}
        weighed = ops.weigh_classes(weights, labels, self.class_weights)
        loss = ops.cross_entropy(outputs, labels, weighed, label_smoothing=self.label_smoothing).loss
        return metrics | {"loss": Mean(loss, weighed.sum())}

    def predict(self, outputs: jax.Array) -> jax.Array:
        """float32 [*, E], the probability of each class."""
        return jax.nn.softmax(_wide(outputs), axis=-1)

    def outputs_for(self, believed: jax.Array) -> jax.Array:
        """Logarithms of probabilities [*, E]."""
        return jnp.log(_above_zero(believed))


@dataclasses.dataclass(frozen=True)
class YesNo:
    """Labels of which any number may be right: binary cross-entropy; labels are [*, E] or, of one, [*].

    Attributes:
      num_labels: E.
      positive_weights: what a yes counts for, one for each label; empty for 1.
    """

    num_labels: int = 1
    positive_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"num_labels must be 1 or more, got {self.num_labels}")
        if self.positive_weights and len(self.positive_weights) != self.num_labels:
            raise ValueError(f"{len(self.positive_weights)} positive_weights do not fit num_labels={self.num_labels}")
        if any(not weight > 0 for weight in self.positive_weights):
            raise ValueError(f"positive_weights must be greater than 0, got {self.positive_weights}")

    @property
    def num_outputs(self) -> int:
        """E."""
        return self.num_labels

    @property
    def likelihood_factor(self) -> float:
        """1: the loss is a negative log-likelihood."""
        return 1.0

    def abstract_labels(self, places: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Shape and type of labels for `places` [*]."""
        return jax.ShapeDtypeStruct((*places, self.num_labels) if self.num_labels > 1 else places, jnp.int32)

    def sums(self, outputs: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
        """`loss`, a mean over the E labels, and `accuracy`, of those with all E right."""
        positive = jnp.asarray(self.positive_weights) if self.positive_weights else 1.0
        labels = _beside(labels, outputs)
        found = ops.multi_label_cross_entropy(outputs, labels, weights, positive_weights=positive)
        total = weights.sum()
        return {"loss": Mean(found.loss, total), "accuracy": Mean(found.correct, total)}

    def predict(self, outputs: jax.Array) -> jax.Array:
        """float32 [*, E], the probability of each label."""
        return jax.nn.sigmoid(_wide(outputs))

    def outputs_for(self, believed: jax.Array) -> jax.Array:
        """Log-odds of probabilities [*, E]."""
        return jnp.log(_above_zero(believed)) - jnp.log(_above_zero(1.0 - believed))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers, standardised or not: labels are [*, E] or, of one, [*].

    Attributes:
      loss: `squared`, `absolute` or `huber`, in the unit of the labels.
      delta: of `huber`.
      num_numbers: E; losses and metrics are means over them.
    """

    loss: str = "squared"
    delta: float = 1.0
    num_numbers: int = 1

    def __post_init__(self) -> None:
        if self.loss not in ("squared", "absolute", "huber"):
            raise ValueError(f"loss {self.loss!r} is not one of squared, absolute, huber")
        if self.num_numbers < 1:
            raise ValueError(f"num_numbers must be 1 or more, got {self.num_numbers}")
        if not self.delta > 0:
            raise ValueError(f"delta must be greater than 0, got {self.delta}")

    @property
    def num_outputs(self) -> int:
        """E."""
        return self.num_numbers

    @property
    def likelihood_factor(self) -> float:
        """1/2 for squared errors, as of a normal distribution; the Huber loss has that half in it.

        1 for absolute errors, as of a Laplace distribution.
        """
        return 0.5 if self.loss == "squared" else 1.0

    def abstract_labels(self, places: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Shape and type of labels for `places` [*]."""
        return jax.ShapeDtypeStruct((*places, self.num_numbers) if self.num_numbers > 1 else places, jnp.float32)

    def sums(self, outputs: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
        """`loss`, `mse`, `mae`."""
        each = jnp.broadcast_to(weights[..., None], outputs.shape)
        labels, total = _beside(labels, outputs), weights.sum()

        def mean(sum_over_all: jax.Array) -> Mean:
            return Mean(sum_over_all / self.num_numbers, total)

        mse, mae = (mean(error(outputs, labels, each)) for error in (ops.squared_error, ops.absolute_error))
        if self.loss == "huber":
            return {"loss": mean(ops.huber_loss(outputs, labels, each, delta=self.delta)), "mse": mse, "mae": mae}
        return {"loss": mse if self.loss == "squared" else mae, "mse": mse, "mae": mae}

    def predict(self, outputs: jax.Array) -> jax.Array:
        """float32 [*, E], the numbers."""
        return _wide(outputs)

    def outputs_for(self, believed: jax.Array) -> jax.Array:
        """The numbers themselves."""
        return believed


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Quantiles of a number: the pinball loss; labels are [*].

    Attributes:
      levels: the E shares of labels that shall lie below, such as (0.1, 0.5, 0.9).
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.levels or not all(0.0 < level < 1.0 for level in self.levels):
            raise ValueError(f"levels must be numbers between 0 and 1, got {self.levels}")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must ascend, got {self.levels}")

    @property
    def num_outputs(self) -> int:
        """E."""
        return len(self.levels)

    @property
    def likelihood_factor(self) -> float:
        """1, as of an asymmetric Laplace distribution."""
        return 1.0

    def abstract_labels(self, places: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Shape and type of labels for `places` [*]."""
        return jax.ShapeDtypeStruct(places, jnp.float32)

    def sums(self, outputs: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
        """`loss` and, such as `below_0.1`, the share of labels that are not above each quantile."""
        total = weights.sum()
        loss = ops.quantile_loss(outputs, labels, weights, quantiles=self.levels)
        below = (weights[..., None] * (labels[..., None] <= outputs)).reshape(-1, len(self.levels)).sum(axis=0)
        shares = {f"below_{level:g}": Mean(below[i], total) for i, level in enumerate(self.levels)}
        return {"loss": Mean(loss, total)} | shares

    def predict(self, outputs: jax.Array) -> jax.Array:
        """float32 [*, E], ascending (Chernozhukov et al. 2010: sorting crossed quantiles makes them no worse)."""
        return jnp.sort(_wide(outputs), axis=-1)

    def outputs_for(self, believed: jax.Array) -> jax.Array:
        """The quantiles themselves."""
        return believed


def check_together(objectives: Mapping[str, Objective]) -> None:
    """Refuses objectives of one's own, written for one network, for several that predict together: `ValueError`."""
    for name, objective in objectives.items():
        if not hasattr(objective, "outputs_for"):
            raise ValueError(
                f"several networks predict together, and what they believe of {name!r} cannot be measured: give "
                f"{type(objective).__name__} a method outputs_for (see tasks.objectives.Objective), or set "
                "--config.task.members=1 and --config.task.linear_members=0"
            )


def _wide(outputs: jax.Array) -> jax.Array:
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _above_zero(probabilities: jax.Array) -> jax.Array:
    return jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny)


def _beside(labels: jax.Array, outputs: jax.Array) -> jax.Array:
    """Labels [*] of one output as [*, 1]."""
    return labels[..., None] if labels.ndim == outputs.ndim - 1 else labels
