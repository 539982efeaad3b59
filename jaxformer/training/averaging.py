"""Which parameters of a finished run are evaluated, and the mean over checkpoints (Vaswani et al. 2017, section 6.1).

Not for the moving average, which the step keeps.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.config import TrainingConfig
from jaxformer.training import quiet
from jaxformer.training.checkpoint import CheckpointError, Checkpoints
from jaxformer.training.retention import regular_steps

_LOGGER = logging.getLogger(__name__)


def average_params(checkpoints: Checkpoints, steps: list[int], template: Any) -> tuple[Any, list[int]]:
    """The mean of the parameters of several checkpoints, held one at a time, and the steps that could be read.

    Args:
      checkpoints: of the run.
      steps: which ones.
      template: shapes and placement of the parameters.

    Raises:
      CheckpointError: if none can be read.
    """
    add = jax.jit(functools.partial(jax.tree.map, jnp.add))
    total: Any = None
    read: list[int] = []
    for step, params in _readable(checkpoints, steps, template):
        total = params if total is None else add(total, params)
        read.append(step)
    return jax.tree.map(lambda leaf: leaf / len(read), total), read


def select_params(checkpoints: Checkpoints, config: TrainingConfig, template: Any) -> tuple[Any, str]:
    """The parameters to evaluate and to translate with.

    The mean of the last `average_checkpoints` regular checkpoints where that is wanted; else those of the best
    checkpoint by `best_metric`; else, without validation, the newest. Where a moving average is kept, it stands for
    the parameters.

    A damaged checkpoint is left out, with a warning that says why: a finished run has nothing to train again, so the
    newest one that can be read takes its place, or the mean is that of the others.

    Returns:
      The parameters, and words that say which they are.

    Raises:
      CheckpointError: if there is no checkpoint, or none can be read.
    """
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"there is no checkpoint in {checkpoints.directory}: train first")
    if config.average_checkpoints > 1:
        chosen = regular_steps(steps, config.checkpoint_every)[-config.average_checkpoints :]
        params, read = average_params(checkpoints, chosen, template)
        return params, f"the mean of the checkpoints of steps {', '.join(map(str, read))}"
    kind = "moving average" if config.ema_decay else "parameters"
    best = checkpoints.best_step()
    first, why = (steps[-1], "the newest") if best is None else (best, f"best {config.best_metric}")
    others = [step for step in reversed(steps) if step != first]
    step, params = next(_readable(checkpoints, [first, *others], template))
    return params, f"the {kind} of step {step}, {why if step == first else f'in place of step {first}'}"


def _readable(checkpoints: Checkpoints, steps: list[int], template: Any) -> Iterator[tuple[int, Any]]:
    """Those of `steps` that can be read, with their parameters; at least one, or the error of the last."""
    found = False
    for step in steps:
        try:
            params = checkpoints.restore_params(step, template)
        except CheckpointError as error:
            if step == steps[-1] and not found:
                raise
            quiet.ignore_reads_that_outlive_a_failure()
            _LOGGER.warning("%s", str(error).partition(": restore it from")[0])
            continue
        found = True
        yield step, params
