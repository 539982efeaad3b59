"""One training step taken apart: seconds of the forward pass, the backward pass, and the update.

Each is the difference between programs that are compiled and timed in turn, so that noise meets all of them alike:
forward; forward and backward; the whole step. Not for where the time of a run goes (`monitoring.throughput`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxformer.ops.dropout import row_seeds
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.rows import gradients_over_rows, sum_over_rows
from jaxformer.training.feed import side_lengths
from jaxformer.training.state import TrainState
from jaxformer.training.step import LossFunction, Rows, make_train_step, split_rows, sum_of_gradients

REPEATS = 7


def time_parts(
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Rows,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    layout: Layout | None = None,
    repeats: int = REPEATS,
) -> dict[str, float]:
    """Seconds of `forward`, `backward`, `update` and the whole `step` on `batch`: medians of `repeats` rounds.

    Args:
      loss_function, optimizer, accumulate, ema_decay, layout: as in `make_train_step`.
      state: on the mesh; copied once, and left as it is.
      batch: on the mesh.
      repeats: rounds after a first one, which compiles.
    """

    def forward(params: Any, rows: Any) -> Any:
        sums = jax.lax.map(lambda part: loss_function(params, *part), split_rows(rows, accumulate))
        return jax.tree.map(lambda x: x.sum(axis=0), sums)

    def gradient(params: Any, _: tuple[()], rows: Any) -> Any:
        batch, seeds = split_rows(rows, accumulate)
        found, *sums = sum_of_gradients(loss_function, params, batch, seeds, 1.0)
        return found, tuple(sums)

    def seeds(batch: Rows) -> jax.Array:
        return row_seeds(jnp.uint32(0), jax.tree.leaves(batch)[0].shape[0])

    compiled_forward = jax.jit(lambda params, batch: sum_over_rows(forward, layout)(params, (batch, seeds(batch))))
    compiled_gradient = jax.jit(
        lambda params, batch: gradients_over_rows(gradient, layout)(params, (), (batch, seeds(batch)))
    )
    step = make_train_step(loss_function, optimizer, accumulate=accumulate, ema_decay=ema_decay, layout=layout)
    own = jax.tree.map(lambda leaf: leaf.copy(), state)  # every step takes the state it is given

    def whole() -> Any:
        nonlocal own
        own, metrics = step(own, batch)
        return own, metrics

    programs: list[Callable[[], Any]] = [
        lambda: compiled_forward(state.params, batch),
        lambda: compiled_gradient(state.params, batch),
        whole,
    ]
    rounds = [[_seconds(program) for program in programs] for _ in range(repeats + 1)][1:]
    parts = {
        "forward": [first for first, _, _ in rounds],
        "backward": [both - first for first, both, _ in rounds],
        "update": [all_ - both for _, both, all_ in rounds],
        "step": [all_ for _, _, all_ in rounds],
    }
    return {name: statistics.median(seconds) for name, seconds in parts.items()}


def _seconds(program: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start


def describe_parts(parts: dict[str, float], batch: Rows) -> str:
    """`time_parts` for a person."""
    whole = parts["step"]
    shares = ", ".join(
        f"{name} {parts[name] * 1e3:.1f} ms ({parts[name] / whole:.0%})" for name in ("forward", "backward", "update")
    )
    rows, (source, target) = jax.tree.leaves(batch)[0].shape[0], side_lengths(batch)
    slots = f"({source}+{target})" if target else str(source)
    return f"a step on {rows}x{slots} slots takes {whole * 1e3:.1f} ms: {shares}"
