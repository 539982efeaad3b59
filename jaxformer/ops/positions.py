"""Position signals: sinusoids that are added, and rotations that are multiplied."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def sinusoidal_positions(positions: jax.Array, width: int) -> jax.Array:
    """Sinusoidal position encodings (Vaswani et al. 2017, section 3.5), sines first, then cosines.

    The paper interleaves the two; a fixed permutation of the channels makes no difference to a learned network.

    Args:
      positions: int32 [*], positions from 0.
      width: D, even or odd.

    Returns:
      float32 [*, D].
    """
    half = (width + 1) // 2
    # Two wavelengths at least, so that width 2 divides by one rather than by nothing.
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / max(half - 1, 1))
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :width]


class Rotation(NamedTuple):
    """How far positions turn pairs of channels: sines and cosines of the angles, float32 [*, H/2]."""

    sin: jax.Array
    cos: jax.Array


def rotation(positions: jax.Array, head_size: int, base: float = 10000.0, *, length: int | None = None) -> Rotation:
    """The rotation of each position (Su et al. 2021, equation 34).

    Args:
      positions: int32 [*], from 0.
      head_size: H, even.
      base: of the wavelengths' geometric progression.
      length: that all positions are below, where that is known: one sine is taken for each of them. Otherwise XLA takes
        one for every channel of every head that is turned, 4 % of a training step on a CPU. A position that is not
        below it gives NaN.

    Returns:
      [*, H/2], angles proportional to the position.
    """
    if length is not None:
        of_all = rotation(jnp.arange(length), head_size, base)
        return Rotation(*(part.at[positions].get(mode="fill", fill_value=jnp.nan) for part in of_all))
    half = head_size // 2
    angles = positions[..., None].astype(jnp.float32) * base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    return Rotation(jnp.sin(angles), jnp.cos(angles))


def rotate(x: jax.Array, by: Rotation) -> jax.Array:
    """[B, T, N, H] with pairs of channels turned by [B, T, H/2], or what broadcasts to it; in the dtype of `x`.

    Channel i is paired with channel i + H/2, so the scalar product of two rotated vectors depends on the difference
    of their positions only.
    """
    sin, cos = (part[..., None, :] for part in by)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def apply_rotary(x: jax.Array, positions: jax.Array, base: float = 10000.0) -> jax.Array:
    """`rotate` of queries or keys [B, T, N, H] by the `rotation` of their positions, int32 [B, T]."""
    return rotate(x, rotation(positions, x.shape[-1], base))
