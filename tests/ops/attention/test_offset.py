"""Some of a sequence's queries (`Mask.of_queries`) attend as they do among all: what is seen and dropped, gradients."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.attention import decide_attention, mosaic
from jaxformer.ops.attention.chunked import attention_xla_chunked
from jaxformer.ops.attention.reference import attention_xla
from jaxformer.ops.dropout import head_seeds, keep_mask
from tests.ops.attention.oracle import assert_close, exact, make_mask, random_inputs

QUERIES, KEYS, PART, RATE = 12, 9, 4, 0.3

ACCEPTING = {"xla": attention_xla, "xla_chunked": functools.partial(attention_xla_chunked, chunk=4)}


@pytest.mark.parametrize("name", ["none", "causal", "window", "query lengths", "causal+segments"])
@pytest.mark.parametrize("implementation", ACCEPTING)
def test_parts_together_are_the_whole(implementation: str, name: str) -> None:
    q, k, v, do = random_inputs(queries=QUERIES, keys=KEYS, heads=4, kv_heads=2)
    mask, allowed = make_mask(name, 2, QUERIES, KEYS)
    seed = jnp.uint32(5)
    kept = keep_mask(head_seeds(seed, 2, 4), (2, 4, QUERIES, KEYS), RATE)
    whole = exact(q, k, v, allowed, do, kept, RATE)

    @jax.jit
    def of_part(q, k, v, do, start):
        part = (Mask() if mask is None else mask).of_queries(start, PART)
        own_q, own_do = (jax.lax.dynamic_slice_in_dim(x, start, PART, axis=1) for x in (q, do))
        attend = functools.partial(
            ACCEPTING[implementation], mask=part, scale=q.shape[3] ** -0.5, dropout=RATE, dropout_seed=seed
        )
        with jax.default_matmul_precision("highest"):
            out, pullback = jax.vjp(attend, own_q, k, v)
            return out, *pullback(own_do)

    parts = [of_part(q, k, v, do, start) for start in range(0, QUERIES, PART)]
    out, dq = (jnp.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    dk, dv = (sum(part[i] for part in parts) for i in (2, 3))
    assert_close((out, dq, dk, dv), whole, "float32")
    between = of_part(q, k, v, do, 3)[:2]  # not only multiples of their number
    assert_close(between, [x[:, 3 : 3 + PART] for x in whole[:2]], "float32")


CAUSAL = Mask(causal=True).of_queries(8, 16)


def test_kernels_that_count_from_0_refuse_where_it_matters() -> None:
    q, k, v, _ = random_inputs(queries=16, keys=24, size=64, dtype="bfloat16")
    for mask, rate in ((CAUSAL, 0.0), (Mask().of_queries(8, 16), 0.1)):
        dropping = {"mask": mask, "dropout": rate, "dropout_seed": jnp.uint32(1)}
        with pytest.raises(NotImplementedError, match="pallas: its kernels count queries from 0"):
            attention(q, k, v, implementation="pallas", **dropping)
        with pytest.raises(NotImplementedError, match="its kernels count queries from 0"):
            mosaic.attention_mosaic_anywhere(q, k, v, scale=1.0, **dropping)
    assert str(decide_attention(q, k, mask=CAUSAL, dropout=0.1)).startswith("attention uses xla")


def test_kernels_take_it_where_it_does_not_matter() -> None:
    q, k, v, _ = random_inputs(queries=16, keys=24, size=32)
    ids = jnp.arange(24)[None].repeat(2, 0) // 5 + 1
    mask = Mask.segments(ids).of_queries(8, 16)
    ours, plain = (attention(q, k, v, mask=mask, implementation=name) for name in ("pallas", "xla"))
    np.testing.assert_allclose(ours, plain, atol=1e-5)
