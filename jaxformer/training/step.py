"""One optimizer step as a pure function, and the compiled form of it that the loop calls.

The gradient is that of the *sum* of the losses over every micro-batch and device, divided once by the global weight:
accumulating and sharding change nothing but rounding. (A mean of micro-batch means weighs tokens unequally; see
transformers#34191.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxformer.ops.dropout import row_seeds
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.rows import gradients_over_rows
from jaxformer.training.state import TrainState
from jaxformer.types import Mean

Metrics = dict[str, Mean]
Rows = Any
"""A batch: a pytree of arrays that lead with rows, such as `Batch` or `LabelledBatch`."""

LossFunction = Callable[[Any, Rows, jax.Array], tuple[Mean, Metrics]]
"""`(params, batch, dropout seeds) -> (loss, metrics)`: uint32 [B], a seed for each row; all results undivided sums."""

_Tree = TypeVar("_Tree")

TrainStep = Callable[[TrainState, Rows], tuple[TrainState, Metrics]]


class Stage(NamedTuple):
    """A part of training that has a step function of its own.

    Attributes:
      start: steps taken before it.
      step: the function.
      passes: how often it passes a row through the network.
    """

    start: int
    step: TrainStep
    passes: int = 1


def sum_of_gradients(
    loss_function: LossFunction, params: Any, batch: Rows, seeds: jax.Array, scale: jax.Array | float
) -> tuple[Any, jax.Array, Metrics]:
    """Gradient of the summed loss times `scale`, total weight, metrics.

    Args:
      loss_function: see there.
      params: differentiated by.
      batch, seeds: of micro-batches, stacked: [A, B / A, ...].
      scale: of the loss.
    """

    def micro(batch: Rows, seeds: jax.Array) -> tuple[Any, jax.Array, Metrics]:
        def summed(params: Any) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
            loss, metrics = loss_function(params, batch, seeds)
            return loss.sum * scale, (loss.weight, metrics)

        gradient, (weight, metrics) = jax.grad(summed, has_aux=True)(params)
        return gradient, weight, metrics

    if seeds.shape[0] == 1:
        return micro(jax.tree.map(lambda x: x[0], batch), seeds[0])
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(micro, jax.tree.map(lambda x: x[0], batch), seeds[0]),
    )

    def body(total: Any, part: tuple[Rows, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, micro(*part)), None

    return jax.lax.scan(body, zeros, (batch, seeds))[0]


def split_rows(rows: _Tree, parts: int) -> _Tree:
    """[B, ...] to [A, B / A, ...], in blocks: batches come with their rows dealt evenly (`data.dealing`)."""
    return jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), rows)


def _slots(batch: Rows, accumulate: int, layout: Layout | None) -> int:
    """Positions of a micro-batch on a device: its rows times its part of the longest side. Static."""
    leaves = jax.tree.leaves(batch)
    length = max((leaf.shape[1] for leaf in leaves if leaf.ndim > 1), default=1)
    rows_apart, length_apart = (1, 1) if layout is None else (layout.parts("rows"), layout.parts("length"))
    return max(1, leaves[0].shape[0] // (accumulate * rows_apart) * length // length_apart)


def _moving_average(ema: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """`decay * ema + (1 - decay) * params`, with a smaller decay at first so that the start is soon forgotten."""
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda average, value: average + (1.0 - rate) * (value - average), ema, params)


def _unless_infinite(old: TrainState, new: TrainState, metrics: Metrics) -> tuple[TrainState, Metrics]:
    """The step `new` if loss and gradient were finite, else `old` with the next number; either way the next loss scale.

    Returns:
      The state, and the metrics: of a skipped step they have no weight, and `skipped` is 1 instead of 0.
    """
    finite = jnp.isfinite(metrics["loss"].sum) & jnp.isfinite(metrics["grad_norm"].sum)
    params, ema, opt_state = jax.tree.map(
        lambda taken, kept: jnp.where(finite, taken, kept),
        (new.params, new.ema, new.opt_state),
        (old.params, old.ema, old.opt_state),
    )
    # The learning rate follows the steps counted, not those taken: a schedule would not reach its end otherwise.
    opt_state = jax.tree.map(
        lambda part: part._replace(count=new.step) if _is_schedule(part) else part, opt_state, is_leaf=_is_schedule
    )
    assert old.loss_scale is not None
    loss_scale = old.loss_scale.adjusted(finite)
    metrics = jax.tree.map(lambda x: jnp.where(finite, x, 0), metrics)
    one = jnp.ones(())
    metrics |= {"skipped": Mean(1.0 - finite, one), "loss_scale": Mean(old.loss_scale.scale, one)}
    return TrainState(new.step, params, ema, opt_state, old.key, loss_scale), metrics


def _is_schedule(part: Any) -> bool:
    return isinstance(part, optax.ScaleByScheduleState)


def _placed(state: TrainState, layout: Layout) -> TrainState:
    """`state` as it lay before the step, whatever the compiler finds convenient."""
    place = lambda tree: jax.lax.with_sharding_constraint(tree, layout.shardings(tree))  # noqa: E731
    params, ema, opt_state = map(place, (state.params, state.ema, state.opt_state))
    return dataclasses.replace(state, params=params, ema=ema, opt_state=opt_state)


def make_train_step(
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    layout: Layout | None = None,
) -> TrainStep:
    """The compiled step `(state, batch) -> (state, metrics)`; the state passed in is donated.

    Args:
      loss_function: gives sums; called once for each micro-batch.
      optimizer: turns the mean gradient into an update.
      accumulate: A, micro-batches in a step; must divide the rows of every batch on each device.
      ema_decay: of the moving average, where the state keeps one.
      layout: of batches and parameters over devices: each takes the gradient over its own part, and these are summed
        once. None for one device.

    Returns:
      A jitted function. Its metrics are those of the loss function, summed, and `grad_norm`, the global norm of the
      mean gradient before clipping; with a loss scale, see `_unless_infinite`.
    """

    def gradients(params: Any, scale: Any, rows: tuple[Rows, jax.Array]) -> tuple[Any, tuple[jax.Array, Metrics]]:
        batch, seeds = split_rows(rows, accumulate)
        gradient, weight, metrics = sum_of_gradients(loss_function, params, batch, seeds, scale)
        return gradient, (weight, metrics)

    def step(state: TrainState, batch: Rows) -> tuple[TrainState, Metrics]:
        seed = jax.random.bits(jax.random.fold_in(state.key, state.step), (), jnp.uint32)
        seeds = row_seeds(seed, jax.tree.leaves(batch)[0].shape[0])
        scale = 1.0 if state.loss_scale is None else state.loss_scale.of_sum(_slots(batch, accumulate, layout))
        gradient, (weight, metrics) = gradients_over_rows(gradients, layout)(state.params, scale, (batch, seeds))
        gradient = jax.tree.map(lambda g: g / (scale * jnp.maximum(weight, 1e-9)), gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = _moving_average(ema, params, ema_decay, state.step)
        metrics = metrics | {"grad_norm": Mean(optax.tree.norm(gradient), jnp.ones(()))}
        new = dataclasses.replace(state, step=state.step + 1, params=params, ema=ema, opt_state=opt_state)
        new, metrics = _unless_infinite(state, new, metrics) if state.loss_scale is not None else (new, metrics)
        return (new if layout is None or layout.mesh.size == 1 else _placed(new, layout)), metrics

    return jax.jit(step, donate_argnums=0)
