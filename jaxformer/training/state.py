"""What a training step reads and replaces: one registered dataclass, a pytree of arrays and nothing else.

Not for the static half of a model (the NNX graph definition stays outside, with the loop), and not for what only the
host knows (the data iterator, early stopping, the log window: `loop.Progress`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxformer.parallel.layout import Layout
from jaxformer.training.loss_scale import LossScale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything on the device that changes from step to step.

    Attributes:
      step: int32 scalar, steps taken so far.
      params: the trainable parameters, an `nnx.State` of `nnx.Param`.
      ema: their exponential moving average, of the same structure; None when it is not kept.
      opt_state: the optimizer's state.
      key: the base key of dropout, which never changes: step i uses `fold_in(key, i)`, so that a resumed run draws the
        masks of an uninterrupted one.
      loss_scale: of float16; None for other precisions.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    key: jax.Array
    loss_scale: LossScale | None = None


def create_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema: bool,
    loss_scale: bool = False,
    layout: Layout | None = None,
) -> TrainState:
    """The state before the first step; no two leaves share a buffer, so that the whole of it can be donated.

    Args:
      params: the model's parameters, a pytree of arrays, of which the state takes copies; or a function that makes
        them, which is compiled, so that each device makes its own part and none ever holds the whole.
      optimizer: makes the first `opt_state`.
      seed: of dropout.
      ema: whether to keep a moving average of the parameters.
      loss_scale: whether the loss is scaled, for float16.
      layout: where everything lies; None for where JAX puts it.
    """
    make = params if callable(params) else None

    def build(given: Any) -> TrainState:
        params = make() if make else given
        copies = jax.tree.map(jnp.array, params)
        average = jax.tree.map(jnp.array, params) if ema else None
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=copies,
            ema=average,
            opt_state=optimizer.init(params),
            key=jax.random.key(seed),
            loss_scale=LossScale.create() if loss_scale else None,
        )

    given = None if make else params
    places = layout.shardings(jax.eval_shape(build, given)) if layout is not None else None
    return jax.jit(build, out_shardings=places)(given)


def evaluation_params(state: TrainState) -> Any:
    """The parameters to evaluate: the moving average where one is kept."""
    return state.params if state.ema is None else state.ema
