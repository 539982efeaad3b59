"""The checkpoints of a run: where they are, and which of them its configuration lets stay."""

from __future__ import annotations

from jaxformer.config import Config
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.workdir import Workdir


def open_checkpoints(config: Config, workdir: Workdir, *, read_only: bool = False) -> Checkpoints:
    """The checkpoints of a run, with the retention that `config` asks for; `read_only` beside a run that may go on."""
    training = config.training
    return Checkpoints(
        workdir.checkpoints,
        keep=training.keep_checkpoints,
        average=training.average_checkpoints,
        period=training.checkpoint_every,
        best_metric=training.best_metric,
        read_only=read_only,
    )
