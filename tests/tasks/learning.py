"""What the tests of tasks for an encoder share: a small network, rows, and a few hundred steps of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxformer.config import Config, replace
from jaxformer.training import create_state, make_optimizer, make_train_step
from jaxformer.types import LabelledBatch, Sequences

V = 12


def small(**model: Any) -> Config:
    """A network of one layer and 8,000 parameters for rows of 16, and a constant learning rate."""
    sizes = {"d_model": 32, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "max_length": 16, "dropout": 0.0}
    optimizer = {"learning_rate": 5e-3, "schedule": "constant", "warmup_steps": 0}
    return replace(Config(), {"model": sizes | model, "data": {"max_length": 16}, "optimizer": optimizer})


def rows(random: np.random.Generator, count: int, *, packed: bool, tokens: tuple[int, int] = (4, V)) -> Sequences:
    """Rows of 16 slots of random tokens: of 5 to 16, or of 3 to 8 and after them 3 to 8 more."""
    place = np.arange(16)
    first = random.integers(3, 9, (count, 1)) if packed else random.integers(5, 17, (count, 1))
    second = random.integers(3, 9, (count, 1)) if packed else 0
    real = place < first + second
    segments = np.where(place < first, 1, 2) * real
    positions = np.where(place < first, place, place - first) * real
    found = random.integers(*tokens, real.shape) * real
    return Sequences(*(x.astype(np.int32) for x in (found, positions, segments)), real.astype(np.float32))


def learn(
    task: Any, make_batch: Callable[[int], LabelledBatch], steps: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of a batch that is not trained on, before and after `steps` batches; and a step is a real one."""
    test = [make_batch(0)]
    optimizer = make_optimizer(task.config.optimizer, steps)
    state = create_state(lambda: task.new_params(0), optimizer, seed=1, ema=False)
    before = task.evaluate_loss(state.params, test)
    step = make_train_step(task.loss_function, optimizer)
    for number in range(1, steps + 1):
        state, metrics = step(state, make_batch(number))
    assert np.isfinite(metrics["grad_norm"].value())
    return before, task.evaluate_loss(state.params, test)
