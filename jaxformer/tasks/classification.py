"""Classification and regression of whole sequences: the sentiment of a sentence, the movement of a price.

Not for labels of single positions: `tagging`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx

from jaxformer.config import Config
from jaxformer.nn import PooledHead
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.labelling import LabellingTask, PartWeights
from jaxformer.tasks.objectives import Objective
from jaxformer.types import PositionLabels, RowLabels


class ClassificationTask(LabellingTask):
    """Labels [B, G] for rows [B, S] that hold up to G sequences; weight 0 where there is none, or its label is unknown.

        task = ClassificationTask(config, {"sentiment": Classes(2)}, pooling="attention", vocabulary_size=8000)
        step = make_train_step(task.loss_function, optimizer)

    Args:
      config, objectives, vocabulary_size, num_channels, spelling, part_weights, layout: as of `LabellingTask`.
      pooling: how a sequence becomes one vector: `cls`, `mean` or `attention`; see `nn.PooledHead`.
      linear_skip: add a linear map of the pooled inputs themselves, which are numbers, to every prediction.
    """

    label_type = RowLabels

    def __init__(
        self,
        config: Config,
        objectives: Mapping[str, Objective],
        *,
        pooling: str = "mean",
        vocabulary_size: int = 0,
        num_channels: int = 0,
        spelling: int = 0,
        linear_skip: bool = False,
        part_weights: PartWeights = None,
        layout: Layout | None = None,
    ) -> None:
        if linear_skip and not num_channels:
            raise ValueError("linear_skip maps inputs that are numbers: give num_channels, or leave it out for tokens")
        self.pooling, self.linear_skip = pooling, linear_skip
        super().__init__(
            config,
            objectives,
            vocabulary_size=vocabulary_size,
            num_channels=num_channels,
            spelling=spelling,
            part_weights=part_weights,
            layout=layout,
        )

    def make_head(self, objective: Objective, rngs: nnx.Rngs) -> nnx.Module:
        """A `PooledHead`."""
        model = self.config.model
        return PooledHead(
            model.d_model,
            objective.num_outputs,
            pooling=self.pooling,
            dropout=model.dropout,
            num_channels=self.num_channels if self.linear_skip else 0,
            rngs=rngs,
        )

    def num_sequences(self, labels: PositionLabels | RowLabels) -> int:
        """G, the second dimension of the labels."""
        return labels.weights.shape[1]
