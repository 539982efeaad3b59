"""Which parameters of a finished run are evaluated, and the mean over checkpoints (Vaswani et al. 2017, section 6.1).

Not for the moving average, which the step keeps.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.config import TrainingConfig
from jaxformer.training.checkpoint import CheckpointError, Checkpoints, regular_steps


def average_params(checkpoints: Checkpoints, steps: list[int], template: Any) -> Any:
    """The mean of the parameters of several checkpoints, held one at a time.

    Args:
      checkpoints: of the run.
      steps: which ones.
      template: shapes and placement of the parameters.
    """
    share = jnp.float32(1.0 / len(steps))
    total = jax.tree.map(lambda leaf: share * leaf, checkpoints.restore_params(steps[0], template))
    add = jax.jit(functools.partial(jax.tree.map, lambda sum_, leaf: sum_ + share * leaf))
    for step in steps[1:]:
        total = add(total, checkpoints.restore_params(step, template))
    return total


def select_params(checkpoints: Checkpoints, config: TrainingConfig, template: Any) -> tuple[Any, str]:
    """The parameters to evaluate and to translate with.

    The mean of the last `average_checkpoints` regular checkpoints where that is wanted; else those of the best
    checkpoint by `best_metric`; else, without validation, the newest. Where a moving average is kept, it stands for
    the parameters.

    Returns:
      The parameters, and words that say which they are.

    Raises:
      CheckpointError: if there is no checkpoint.
    """
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"there is no checkpoint in {checkpoints.directory}: train first")
    if config.average_checkpoints > 1:
        chosen = regular_steps(steps, config.checkpoint_every)[-config.average_checkpoints :]
        described = f"the mean of the checkpoints of steps {', '.join(map(str, chosen))}"
        return average_params(checkpoints, chosen, template), described
    kind = "moving average" if config.ema_decay else "parameters"
    best = checkpoints.best_step()
    if best is not None:
        return checkpoints.restore_params(best, template), f"the {kind} of step {best}, best {config.best_metric}"
    return checkpoints.restore_params(steps[-1], template), f"the {kind} of step {steps[-1]}, the newest"
