"""Which inputs a prediction hangs on: gradient times input (Shrikumar et al. 2016, section 2).

A first-order estimate of what a class's logit owes to every position: positive where the input speaks for the class.
Not for how that is shown (`monitoring.pages`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.tasks.classification import ClassificationTask
from jaxformer.types import Sequences

Attribution = Callable[[Any, Sequences], tuple[jax.Array, jax.Array]]
"""`(params, rows) -> (scores, classes)`."""


def gradient_times_input(task: ClassificationTask, name: str) -> Attribution:
    """What every position of some rows adds to the logit of the class that is predicted, and that class; compiled.

    Args:
      task: of the run; its encoder reads tokens.
      name: of the objective, which predicts classes.

    Returns:
      A function of the parameters and of rows [B, S] of one sequence each, on one device: float32 [B, S], 0 for
      padding, and int32 [B].
    """

    def attribute(params: Any, inputs: Sequences) -> tuple[jax.Array, jax.Array]:
        model = task.model(params)
        encoder = model.encoder
        embedded = encoder.embed(inputs)

        def logits(embedded: jax.Array) -> jax.Array:
            encoded = encoder(inputs, embedded=embedded)
            outputs: jax.Array = model.heads[name](encoded, inputs, num_sequences=1, seed=None)
            return outputs[:, 0].astype(jnp.float32)

        found = logits(embedded).argmax(axis=-1)

        def chosen(embedded: jax.Array) -> jax.Array:
            return jnp.take_along_axis(logits(embedded), found[:, None], axis=-1).sum()  # rows do not see each other

        scores = (jax.grad(chosen)(embedded) * embedded).sum(axis=-1).astype(jnp.float32)
        return jnp.where(jnp.asarray(inputs.segment_ids) > 0, scores, 0.0), found

    compiled: Attribution = jax.jit(attribute)
    return compiled
