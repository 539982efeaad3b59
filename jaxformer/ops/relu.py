"""The rectified linear unit, also with dropout behind it, whose gradients are told by the output.

The next layer keeps the output anyway, so that neither the input nor what lies between is kept.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """The larger of each element and 0; [*] to [*]. The gradient at 0 is 0.

    `jax.nn.relu` keeps its input besides: a second array as large, and no product could be rectified as it is written.
    """
    return jnp.maximum(x, 0)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Held fast: XLA would rather look at the input again, which is the same, and so keep it. One array for both uses:
    # in a loop over layers a second one would be kept as well.
    y = jax.lax.optimization_barrier(relu(x))
    return y, y


def _backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, gradient, jnp.zeros((), gradient.dtype)),)


relu.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def relu_dropout(x: jax.Array, kept: jax.Array, rate: float) -> jax.Array:
    """`relu`, and then dropout: relu(x) / (1 - rate) where `kept`, else 0.

    What is greater than 0 at the end was kept and was greater than 0 before, so that the mask is not made again for the
    gradient, and nothing but the output is kept.

    Args:
      x: [*], floating.
      kept: bool, in the shape of `x`; see `ops.dropout.keep_mask`.
      rate: in [0, 1).
    """
    return jnp.where(kept, jnp.maximum(x, 0) * _larger(rate, x.dtype), 0)


def _larger(rate: float, dtype: jnp.dtype) -> jax.Array:
    return jnp.asarray(1.0 / (1.0 - rate), dtype)


def _dropping(x: jax.Array, kept: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    y = jax.lax.optimization_barrier(relu_dropout(x, kept, rate))  # as in `relu`
    return y, y


def _from_dropped(rate: float, y: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    larger = gradient * _larger(rate, gradient.dtype)
    return jnp.where(y > 0, larger, jnp.zeros((), gradient.dtype)), None


relu_dropout.defvjp(_dropping, _from_dropped)
