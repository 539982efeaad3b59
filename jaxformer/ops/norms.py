"""Layer normalisation and its root-mean-square form, with gradients that keep no more than a number a row.

By automatic differentiation, XLA writes the scale out as large as the activations, in every layer. Not for parameters
(`nn.residual`).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(x: jax.Array, scale: jax.Array, bias: jax.Array | None, epsilon: float, centre: bool) -> jax.Array:
    return _forward(x, scale, bias, epsilon, centre)[0]


def _statistics(x: jax.Array, epsilon: float, centre: bool) -> tuple[jax.Array, jax.Array]:
    """[*, 1] each: the mean, or 0, and one over the deviation from it."""
    mean = x.mean(axis=-1, keepdims=True) if centre else jnp.zeros((), x.dtype)
    return mean, jax.lax.rsqrt(jnp.square(x - mean).mean(axis=-1, keepdims=True) + epsilon)


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array | None, epsilon: float, centre: bool
) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # squares overflow and means lose digits in 16 bits
    mean, rate = _statistics(wide, epsilon, centre)
    y = (wide - mean) * rate * scale
    if bias is not None:
        y = y + bias
    return y.astype(x.dtype), (x, scale, bias, mean, rate)


def _backward(
    epsilon: float, centre: bool, kept: tuple, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    x, scale, bias, mean, rate = kept
    wide = rate.dtype
    normal = (x.astype(wide) - mean) * rate
    gradient = gradient.astype(wide)
    slope = gradient * scale
    along = (slope * normal).mean(axis=-1, keepdims=True)
    to_x = slope - normal * along
    if centre:
        to_x -= slope.mean(axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    to_scale = (gradient * normal).sum(axis=rows).astype(scale.dtype)
    to_bias = None if bias is None else gradient.sum(axis=rows).astype(bias.dtype)
    return (to_x * rate).astype(x.dtype), to_scale, to_bias


_normalise.defvjp(_forward, _backward)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, *, epsilon: float = 1e-6) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last dimension (Ba et al. 2016, equation 4).

    Args:
      x: [*, D], any floating dtype; statistics are taken in float32 at least.
      scale, bias: [D].
      epsilon: added to the variance.

    Returns:
      [*, D], in the dtype of `x`.
    """
    return _normalise(x, scale, bias, epsilon, True)


def rms_norm(x: jax.Array, scale: jax.Array, *, epsilon: float = 1e-6) -> jax.Array:
    """x / sqrt(mean of squares + epsilon) * scale over the last dimension (Zhang and Sennrich 2019, equation 4)."""
    return _normalise(x, scale, None, epsilon, False)
