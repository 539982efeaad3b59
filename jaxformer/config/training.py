"""How the network is trained: the optimizer, how long, and what is done on the way.

Not for the devices it is trained on (`devices`).
"""

from __future__ import annotations

import dataclasses

from jaxformer.config.checks import (
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive,
    check_seed,
    check_types,
)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule (optax).

    Attributes:
      name: `adam`, `adamw`, `sgd`, `rmsprop`, `adafactor` or `lion`.
      learning_rate: the peak, reached at the end of the warm-up.
      schedule: after the warm-up: `inverse_sqrt` (Vaswani et al. 2017, eq. 3), `cosine`, `linear` or `constant`.
      warmup_steps: steps of linear warm-up from 0.
      end_factor: `cosine` and `linear` end at this fraction of the peak.
      b1, b2, eps: of Adam, AdamW and Lion (which has no `eps`); `b2` is also RMSprop's decay.
      momentum: of SGD and RMSprop.
      weight_decay: decoupled; applied to matrices only, never to biases, norms or embeddings of positions.
      clip_norm: largest global norm of the gradient; 0 for no clipping.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "inverse_sqrt"
    warmup_steps: int = 4000
    end_factor: float = 0.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-9
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        check_types("optimizer", self)
        check_choice("optimizer.name", self.name, "adam", "adamw", "sgd", "rmsprop", "adafactor", "lion")
        check_choice("optimizer.schedule", self.schedule, "inverse_sqrt", "cosine", "linear", "constant")
        check_positive("optimizer", self, "learning_rate", "eps")
        check_not_negative("optimizer", self, "warmup_steps", "end_factor", "weight_decay", "clip_norm")
        check_fraction("optimizer", self, "b1", "b2", "momentum")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train and what to do on the way.

    Attributes:
      start_from: folder of another run, whose parameters this one begins with: those that it predicts with. Its
        vocabulary is used too; heads that are of another size here begin anew. Empty: all parameters are random.
      num_steps: optimizer steps.
      seed: of initialisation, dropout and data order.
      label_smoothing: mass moved from the label to the whole vocabulary (Szegedy et al. 2016).
      r_drop: alpha of R-Drop (Liang et al. 2021): every row passes twice, with different dropout, and costs more the
        more the two predictions differ; twice the work a step, less overfitting; 0 for one pass.
      r_drop_start: steps that are taken before R-Drop begins: it slows the first part of training down.
      log_every, eval_every, checkpoint_every: in steps; 0 switches evaluation on the way, or regular checkpoints, off.
      checkpoint_minutes: also save a checkpoint after this many minutes without one, at which several processes look
        every ten steps; 0 for never.
      keep_checkpoints: how many of the newest checkpoints stay.
      average_checkpoints: evaluate the mean of the last N checkpoints' parameters; 0 or 1 for none.
      ema_decay: decay of the exponential moving average of the parameters, which is then evaluated; 0 for none.
      best_metric: the validation metric whose best checkpoint is kept, and which early stopping watches; which there
        are depends on `task.kind`.
      early_stopping: stop after this many evaluations without improvement; 0 for never.
      eval_examples: validation sentences translated on the way; 0 for all.
    """

    start_from: str = ""
    num_steps: int = 10000
    seed: int = 0
    label_smoothing: float = 0.1
    r_drop: float = 0.0
    r_drop_start: int = 0
    log_every: int = 50
    eval_every: int = 1000
    checkpoint_every: int = 1000
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    average_checkpoints: int = 0
    ema_decay: float = 0.0
    best_metric: str = "validation/bleu"
    early_stopping: int = 0
    eval_examples: int = 0

    @property
    def passes(self) -> int:
        """How often a row passes through the network in a step, at most."""
        return 2 if self.r_drop else 1

    @property
    def mean_passes(self) -> float:
        """The same, on average over the run."""
        return 1.0 + (self.num_steps - self.r_drop_start) / self.num_steps if self.r_drop else 1.0

    def __post_init__(self) -> None:
        check_types("training", self)
        check_positive("training", self, "num_steps", "log_every", "keep_checkpoints")
        check_seed("training", self)
        check_not_negative("training", self, "eval_every", "checkpoint_every", "checkpoint_minutes")
        check_not_negative("training", self, "average_checkpoints", "early_stopping", "eval_examples", "r_drop")
        check_not_negative("training", self, "r_drop_start")
        check_fraction("training", self, "label_smoothing", "ema_decay")
        if self.r_drop_start and not (self.r_drop and self.r_drop_start < self.num_steps):
            raise ValueError(
                f"training.r_drop_start={self.r_drop_start} has no R-Drop after it: training.r_drop={self.r_drop} and "
                f"training.num_steps={self.num_steps}; raise these, or set --config.training.r_drop_start=0"
            )
        if self.early_stopping and not self.eval_every:
            raise ValueError(
                f"training.early_stopping={self.early_stopping} needs evaluations to count: set "
                "--config.training.eval_every to a number of steps"
            )
        if self.average_checkpoints > 1 and not self.checkpoint_every:
            raise ValueError(
                f"training.average_checkpoints={self.average_checkpoints} needs checkpoints to average: set "
                "--config.training.checkpoint_every to a number of steps"
            )
        if self.average_checkpoints > 1 and self.ema_decay:
            raise ValueError(
                "training.average_checkpoints and training.ema_decay are two ways to average parameters: choose one"
            )
