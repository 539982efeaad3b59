"""Which inputs a prediction hangs on: gradient times input (Shrikumar et al. 2016, section 2).

A first-order estimate of what a class's logit owes to every position: positive where the input speaks for the class.
Not for how that is shown (`monitoring.pages`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.models import EncoderWithHeads
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.types import Sequences

Attribution = Callable[[Any, Sequences], tuple[jax.Array, jax.Array]]
"""`(params, rows) -> (scores, classes)`."""


def gradient_times_input(task: ClassificationTask, name: str) -> Attribution:
    """What every position of some rows adds to the logit of the class that is predicted, and that class; compiled.

    Of an ensemble, the mean over its members.

    Args:
      task: of the run; its encoder reads tokens.
      name: of the objective, which predicts classes.

    Returns:
      A function of the parameters and of rows [B, S] of one sequence each, on one device: float32 [B, S], 0 for
      padding, and int32 [B].
    """

    def attribute(params: Any, inputs: Sequences) -> tuple[jax.Array, jax.Array]:
        found = task.predict(params, inputs)[name][:, 0].argmax(axis=-1)

        def owed(member: EncoderWithHeads) -> jax.Array:
            embedded = member.encoder.embed(inputs)

            def chosen(embedded: jax.Array) -> jax.Array:
                encoded = member.encoder(inputs, embedded=embedded)
                logits: jax.Array = member.heads[name](encoded, inputs, num_sequences=1, seed=None)[:, 0]
                return jnp.take_along_axis(logits, found[:, None], axis=-1).sum()  # rows do not see each other

            return (jax.grad(chosen)(embedded) * embedded).sum(axis=-1).astype(jnp.float32)

        members = task.model(params).members
        scores = sum(map(owed, members), start=jnp.zeros(())) / len(members)
        return jnp.where(jnp.asarray(inputs.segment_ids) > 0, scores, 0.0), found

    compiled: Attribution = jax.jit(attribute)
    return compiled
