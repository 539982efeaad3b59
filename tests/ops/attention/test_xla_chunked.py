"""The chunked implementation: in many small chunks, and without any array of T x S."""

from __future__ import annotations

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.attention.chunked import attention_xla_chunked
from tests.ops.attention.base import AttentionTests
from tests.ops.attention.oracle import exact, random_inputs


class TestXlaChunked(AttentionTests):
    implementation = "xla_chunked"

    def call(self, q, k, v, **kwargs):
        defaults = {"mask": None, "scale": q.shape[3] ** -0.5, "dropout": 0.0, "dropout_seed": None}
        with jax.default_matmul_precision("highest"):
            return attention_xla_chunked(q, k, v, **{**defaults, **kwargs}, chunk=32)

    def test_the_public_name_leads_here(self):
        q, k, v, _ = self.inputs(keys=600)
        out = jax.jit(functools.partial(attention, implementation="xla_chunked"))(q, k, v)
        np.testing.assert_allclose(out, self.compiled()(q, k, v), atol=1e-5)

    def test_no_array_of_queries_by_keys_exists_in_the_compiled_program(self):
        queries, keys = 96, 160
        q, k, v, do = random_inputs(queries=queries, keys=keys, heads=2, kv_heads=1)
        mask = Mask(causal=True) & Mask(key_lengths=jnp.array([100, 160]))

        def compiled(function):
            def gradients(q, k, v, do, seed):
                return jax.vjp(lambda *x: function(*x, seed), q, k, v)[1](do)

            return jax.jit(gradients).lower(q, k, v, do, jnp.uint32(1)).compile().as_text()

        def offending(text):
            shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"\[(\d+(?:,\d+)+)\]", text)}
            return [x for x in shapes if {queries, keys} <= set(x) or math.prod(x) >= q.shape[0] * 2 * queries * keys]

        chunked = compiled(lambda q, k, v, seed: self.call(q, k, v, mask=mask, dropout=0.1, dropout_seed=seed))
        plain = compiled(lambda q, k, v, seed: attention(
            q, k, v, mask=mask, dropout=0.1, dropout_seed=seed, implementation="xla"))
        assert offending(plain)  # the test sees them where they are
        assert not offending(chunked)


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 1e-2), ("float16", 2e-3)])
@pytest.mark.parametrize("implementation", ["xla_chunked", "pallas"])
def test_gradients_of_16_bits_keep_the_bound_that_is_documented(implementation, dtype, bound):
    q, k, v, do = random_inputs(queries=64, keys=64, heads=2, kv_heads=2, size=32, dtype=dtype)
    _, pullback = jax.vjp(functools.partial(attention, implementation=implementation), q, k, v)
    for found, expected in zip(pullback(do), exact(q, k, v, np.ones((2, 64, 64), bool), do)[1:], strict=True):
        assert np.abs(np.asarray(found, np.float64) - expected).max() < bound * np.abs(expected).max()
