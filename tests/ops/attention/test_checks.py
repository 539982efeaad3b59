"""What attention refuses before any implementation sees it, and that valid calls pass while they are traced."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxformer.ops import attention
from jaxformer.ops.attention import describe_attention
from tests.ops.attention.oracle import random_inputs


@pytest.mark.parametrize("implementation", [None, "xla", "xla_chunked", "pallas"])
@pytest.mark.parametrize("rate", [1.5, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_dropout_rate_outside_of_0_to_1_is_refused(rate, seed, implementation):
    q, k, v, _ = random_inputs(size=32)
    seed = None if seed is None else jnp.uint32(seed)
    with pytest.raises(ValueError, match=rf"at least 0 and less than 1, got {rate}"):
        attention(q, k, v, dropout=rate, dropout_seed=seed, implementation=implementation)
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        describe_attention(q, k, dropout=rate, implementation=implementation)
