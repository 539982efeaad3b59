"""Forecasting: the next steps of a series from patches of its past, each channel by itself (Nie et al. 2023).

A row is one channel of one window: channels share the network and do not see each other. Not for cutting windows and
patches (the data's part).
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
from flax import nnx

from jaxformer.config import Config
from jaxformer.models import EncoderWithHeads
from jaxformer.nn import ChannelHead
from jaxformer.nn.reversible import in_own_units
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.labelling import LabellingTask, PartWeights
from jaxformer.tasks.objectives import Numbers, Objective, Quantiles
from jaxformer.types import RowLabels, Sequences, Series


class ForecastingTask(LabellingTask):
    """Labels [B, T] for rows [B, S] of patches; weight 0 for steps that are not known.

        task = ForecastingTask(config, {"price": Numbers("huber")}, patch_length=16, num_patches=6, horizon=24)
        step = make_train_step(task.loss_function, optimizer)

    Args:
      config, objectives, part_weights, layout: as of `LabellingTask`.
      patch_length: C, numbers in a patch.
      num_patches: S, in every row.
      horizon: T, steps that are forecast.
      reversible: give the network each row in units of its own, and take numbers and quantiles in these from it; see
        `nn.reversible`. Labels, losses and predictions stay in units of the series.
      linear_skip: add a linear map of the patches themselves to what each head forecasts; see `nn.ChannelHead`.
    """

    label_type = RowLabels

    def __init__(
        self,
        config: Config,
        objectives: Mapping[str, Objective],
        *,
        patch_length: int,
        num_patches: int,
        horizon: int,
        reversible: bool = False,
        linear_skip: bool = False,
        part_weights: PartWeights = None,
        layout: Layout | None = None,
    ) -> None:
        self.num_patches, self.horizon, self.reversible = num_patches, horizon, reversible
        self.linear_skip = linear_skip
        super().__init__(config, objectives, num_channels=patch_length, part_weights=part_weights, layout=layout)

    def make_head(self, objective: Objective, rngs: nnx.Rngs) -> nnx.Module:
        """A `ChannelHead`."""
        model = self.config.model
        return ChannelHead(
            model.d_model,
            self.num_patches,
            self.horizon,
            num_outputs=objective.num_outputs,
            dropout=model.dropout,
            patch_length=self.num_channels if self.linear_skip else 0,
            rngs=rngs,
        )

    def label_places(self, rows: int, length: int) -> tuple[int, ...]:
        """[B, T]."""
        return rows, self.horizon

    def outputs(
        self, model: EncoderWithHeads, inputs: Sequences | Series, num_sequences: int, seed: jax.Array | None
    ) -> dict[str, jax.Array]:
        """The outputs of every head, numbers and quantiles in units of the series."""
        if not self.reversible or not isinstance(inputs, Series):
            return super().outputs(model, inputs, num_sequences, seed)
        own, units = in_own_units(inputs)
        outputs = super().outputs(model, own, num_sequences, seed)
        numbers = {name for name, part in self.objectives.items() if isinstance(part, Numbers | Quantiles)}
        return {name: units.restored(x) if name in numbers else x for name, x in outputs.items()}
