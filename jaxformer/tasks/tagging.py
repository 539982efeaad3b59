"""Tagging: something is predicted at every position of a sequence, such as the structure of each residue of a protein.

Not for labels of whole sequences: `classification`.
"""

from __future__ import annotations

from flax import nnx

from jaxformer.nn import TokenHead
from jaxformer.tasks.labelling import LabellingTask
from jaxformer.tasks.objectives import Objective
from jaxformer.types import PositionLabels


class TaggingTask(LabellingTask):
    """Labels [B, S] for rows [B, S], packed or not; weight 0 for padding and for positions that are not scored.

        task = TaggingTask(config, {"ss3": Classes(3)}, vocabulary_size=26)
        step = make_train_step(task.loss_function, optimizer)

    Its arguments are those of `LabellingTask`.
    """

    label_type = PositionLabels

    def make_head(self, objective: Objective, rngs: nnx.Rngs) -> nnx.Module:
        """A `TokenHead`."""
        model = self.config.model
        return TokenHead(model.d_model, objective.num_outputs, dropout=model.dropout, rngs=rngs)
