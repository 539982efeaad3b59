"""The portable kernels: interpreted on a CPU, compiled elsewhere, and lowered for CUDA everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask
from jaxformer.ops.attention.pallas import attention_pallas
from tests.ops.attention.base import AttentionTests
from tests.ops.attention.oracle import assert_close, exact


def _a_gpu_in_mind():
    """Newer versions of jax must be told which GPU a kernel is lowered for where there is none."""
    device = jax.sharding.AbstractDevice
    if "platform" not in {field.name for field in dataclasses.fields(device)}:
        return contextlib.nullcontext()
    h200 = device(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=h200))


class TestPallas(AttentionTests):
    implementation = "pallas"
    size = 32

    @pytest.mark.parametrize(("name", "kv_heads"), [("query lengths", 4), ("nothing", 1)])
    def test_agrees_with_the_formula_in_float64(self, name, kv_heads):
        self.check(5, 7, name, "float32", 4, kv_heads)  # the other masks are in the matrix; compiling takes seconds

    @pytest.mark.parametrize("size", [80, 256])
    def test_head_sizes(self, size):
        q, k, v, do = self.inputs(queries=17, keys=20, heads=1, kv_heads=1, size=size)
        ours = self.with_gradients()(q, k, v, do)
        assert_close(ours, exact(q, k, v, np.ones((2, 17, 20), bool), do), "float32")

    def test_what_it_cannot_do_is_refused_with_the_reason(self):
        q, k, v, _ = self.inputs(size=16)
        with pytest.raises(NotImplementedError, match="pallas: head size 16 is not between 32 and 256"):
            self.call(q, k, v)
        q, k, v, _ = self.inputs()
        with pytest.raises(NotImplementedError, match="one dtype of bfloat16, float16, float32, not float32, bfloat16"):
            self.call(q, k.astype(jnp.bfloat16), v)

    @pytest.mark.filterwarnings("ignore:.*[Tt]riton.*:DeprecationWarning")
    @pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
    def test_both_directions_lower_for_cuda(self, dtype):
        q, k, v, do = self.inputs(queries=200, keys=150, heads=4, kv_heads=2, size=80, dtype=dtype)
        ids = jnp.ones((2, 200), jnp.int32), jnp.ones((2, 150), jnp.int32)

        def run(q, k, v, do, ids, seed):
            mask = Mask(causal=True, window=50) & Mask.segments(*ids)
            function = functools.partial(
                attention_pallas, mask=mask, scale=0.1, dropout=0.1, dropout_seed=seed, platform="gpu"
            )
            out, pullback = jax.vjp(function, q, k, v)
            return out, pullback(do)

        with _a_gpu_in_mind():
            traced = jax.jit(run).trace(q, k, v, do, ids, jnp.uint32(1))
            lowered = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert lowered.count("xla.gpu.triton") == 3  # forward, dq, dk and dv
