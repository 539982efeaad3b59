"""The learning-rate schedule and the optimizer, put together from optax's parts.

The order is the same for every optimizer: clip the gradient by its global norm, turn it into a direction (Adam, Lion
...), add the decoupled weight decay, multiply by the learning rate. Not for the moving average of parameters, which the
step keeps, nor for accumulation, which ends before the optimizer begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxformer.config import OptimizerConfig

Schedule = Callable[[Any], Any]


def make_schedule(config: OptimizerConfig, num_steps: int) -> Schedule:
    """The learning rate as a function of the number of steps already taken.

    The first step (`count` 0) has number t = 1, as in Vaswani et al. 2017, equation 3, so that no step is wasted on a
    learning rate of zero: the rate is `peak * t / warmup_steps` until t = `warmup_steps`, and from there on
    `peak * sqrt(warmup_steps / t)` (`inverse_sqrt`), a half cosine or a line down to `end_factor * peak` at
    t = `num_steps`, or the peak.

    Returns:
      A function of an integer scalar: a jax array gives a jax array (it can be traced), a Python or numpy number gives
      a numpy number and touches no device.
    """
    peak, floor, warmup = config.learning_rate, config.end_factor, config.warmup_steps
    decay_steps = max(num_steps - warmup, 1)

    def schedule(count: Any) -> Any:
        xp: Any = jnp if isinstance(count, jax.Array) else np
        step = xp.asarray(count, xp.float32) + np.float32(1)
        progress = xp.clip((step - warmup) / decay_steps, 0.0, 1.0)
        if config.schedule == "inverse_sqrt":
            factor = xp.sqrt(max(warmup, 1) / xp.maximum(step, max(warmup, 1)))
        elif config.schedule == "cosine":
            factor = floor + (1.0 - floor) * 0.5 * (1.0 + xp.cos(np.float32(np.pi) * progress))
        elif config.schedule == "linear":
            factor = 1.0 + (floor - 1.0) * progress
        else:
            factor = xp.ones_like(step)
        return peak * xp.where(step < warmup, step / max(warmup, 1), factor)

    return schedule


def decay_mask(params: Any) -> Any:
    """Which leaves weight decay touches: a tree of booleans like `params`.

    Matrices only. The name of a parameter decides before its rank does, because scanned layers stack their biases and
    norms into matrices of shape [L, ...]; tables of learned positions are left alone as well.
    """

    def decays(path: tuple[Any, ...], leaf: Any) -> bool:
        names = [str(getattr(entry, "key", getattr(entry, "name", ""))).lower() for entry in path]
        spared = any(name in ("bias", "scale") or "position" in name for name in names)
        return leaf.ndim >= 2 and not spared

    return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimizer of `config` with its schedule over `num_steps`; its updates are added to the parameters.

    `adam` (Kingma and Ba 2015) and `adamw` (Loshchilov and Hutter 2019) are the same formula here, because weight decay
    is decoupled for every optimizer. `sgd` and `rmsprop` carry heavy-ball momentum as torch does (`rmsprop`: Hinton's,
    epsilon outside the root); `adafactor` is Shazeer and Stern 2018 with update clipping at 1 and steps relative to the
    size of the parameter, `learning_rate` being relative too; `lion` is Chen et al. 2023.
    """
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(_direction(config))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=decay_mask))
    parts.append(optax.scale_by_learning_rate(make_schedule(config, num_steps)))
    return optax.chain(*parts)


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    if config.name in ("adam", "adamw"):
        return optax.scale_by_adam(config.b1, config.b2, config.eps)
    if config.name == "lion":
        return optax.scale_by_lion(config.b1, config.b2)
    if config.name == "adafactor":
        return optax.chain(
            optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms()
        )
    momentum = optax.trace(config.momentum) if config.momentum else optax.identity()
    if config.name == "sgd":
        return momentum
    return optax.chain(optax.scale_by_rms(config.b2, config.eps, eps_in_sqrt=False), momentum)
