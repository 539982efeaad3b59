"""Position signals: sinusoids that are added, and rotations that are multiplied."""

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


def apply_rotary(x: jax.Array, positions: jax.Array, base: float = 10000.0) -> jax.Array:
    """Rotates pairs of channels by an angle proportional to the position (Su et al. 2021, equation 34).

    Channel i is paired with channel i + H/2, so the scalar product of two rotated vectors depends on the difference
    of their positions only.

    Args:
      x: [B, T, N, H], queries or keys; H is even.
      positions: int32 [B, T].
      base: of the wavelengths' geometric progression.

    Returns:
      [B, T, N, H], in the dtype of `x`.
    """
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
