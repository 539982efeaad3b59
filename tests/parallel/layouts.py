"""What tests of layouts share: the layouts of eight devices, and how training under them is compared with one device.

Scripts of `tests.devices.run_on_eight_devices` import it. `make(sizes, ...)` stands for a function that returns a step,
a state, a batch on the mesh, and more, for the `MeshConfig` of these sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx

LAYOUTS = [
    {"data": 8},
    {"data": 1, "fsdp": 8},
    {"data": 4, "tensor": 2},
    {"data": 1, "fsdp": 2, "tensor": 4},
    {"data": 2, "context": 4},
    {"data": 1, "fsdp": 2, "tensor": 2, "context": 2},
]

GATHERING = [{"data": 2, "context": 4}, {"data": 1, "tensor": 2, "context": 4}]
"""Layouts over whose axes `tensor` and `context` two heads do not divide: attention gathers keys and values."""


def leaves(state: Any) -> list[np.ndarray]:
    """The parameters of a training state, on the host."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


def leaves_but_key_biases(state: Any, head_size: int) -> list[np.ndarray]:
    """The same without the biases of keys, whose gradient is zero but for rounding: softmax takes no notice of them."""
    kept = []
    for path, leaf in nnx.to_flat_state(state.params):
        value = np.asarray(leaf[...])
        if path[-2:] == ("query_key_value", "bias"):
            value = value.reshape(-1, 3, head_size)[:, [0, 2]]
        elif path[-2:] == ("key_value", "bias"):
            value = value.reshape(-1, 2, head_size)[:, 1]
        kept.append(value)
    return kept


def check_gradients(make: Callable[..., Any], layouts: Iterable[dict[str, int]]) -> None:
    """Loss and gradient are those of one device to 1e-5, with one micro-batch and two.

    `make(sizes, accumulate=...)` takes steps of SGD with a learning rate of 1, so that a step is the gradient.
    """

    def gradient(sizes: dict[str, int], accumulate: int) -> tuple[float, list[np.ndarray]]:
        step, state, batch, *_ = make(sizes, accumulate=accumulate)
        before = leaves(state)
        state, metrics = step(state, batch)
        return float(metrics["loss"].value()), [a - b for a, b in zip(before, leaves(state), strict=True)]

    loss, expected = gradient({"data": 1}, 1)
    size = np.sqrt(sum((x.astype(float) ** 2).sum() for x in expected))
    for number, sizes in enumerate(layouts):
        found, parts = gradient(sizes, 1 + number % 2)
        np.testing.assert_allclose(found, loss, rtol=1e-5, err_msg=str(sizes))
        distance = np.sqrt(sum(((a - b).astype(float) ** 2).sum() for a, b in zip(parts, expected, strict=True)))
        assert distance < 1e-5 * size, (sizes, distance, size)


def check_steps(
    make: Callable[..., Any],
    layouts: Iterable[dict[str, int]],
    steps: int = 20,
    leaves: Callable[[Any], list[np.ndarray]] = leaves,
) -> None:
    """Parameters after `steps` steps are those of one device to 1e-9 of the largest; `make(sizes)` is in float64."""

    def train(sizes: dict[str, int]) -> list[np.ndarray]:
        step, state, batch, *_ = make(sizes)
        for _ in range(steps):
            state, _ = step(state, batch)
        return leaves(state)

    expected = train({"data": 1})
    largest = max(np.abs(leaf).max() for leaf in expected)
    for sizes in layouts:
        for a, b in zip(train(sizes), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * largest, err_msg=str(sizes))
