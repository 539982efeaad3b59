"""cuDNN: on an NVIDIA GPU the calls it takes; everywhere what it refuses, and why."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.attention import cudnn
from tests.ops.attention.base import AttentionTests
from tests.ops.attention.oracle import random_inputs


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
class TestCudnn(AttentionTests):
    implementation = "cudnn"
    size = 64
    may_refuse = True

    @pytest.mark.parametrize(
        "case",
        [
            (128, 128, "none", "bfloat16", 2, 2),
            (2, 18, "none", "float16", 2, 2),
            (704, 704, "causal", "bfloat16", 2, 2),
            (66, 66, "causal", "float16", 2, 2),
            (130, 300, "lengths", "bfloat16", 2, 2),
            (18, 34, "query lengths", "float16", 2, 2),
            (62, 66, "nothing", "bfloat16", 2, 2),
        ],
        ids=lambda case: "-".join(map(str, case)),
    )
    def test_what_it_takes_is_right(self, case):
        self.may_refuse = False
        self.check(*case)


H200 = types.SimpleNamespace(
    platform="gpu", device_kind="NVIDIA H200", compute_capability="9.0",
    client=types.SimpleNamespace(platform_version="cuda 13000"),
)  # fmt: skip
IDS = jnp.ones((2, 128), jnp.int32)
LENGTHS = Mask(key_lengths=jnp.array([3, 100]))


def _refusals(mask=None, dropped=False, **shape):
    q, k, v, _ = random_inputs(**{"queries": 128, "keys": 128, "size": 64, "dtype": "bfloat16", **shape})
    return list(cudnn._refusals(q, k, v, mask, dropped))


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("takes bfloat16 and float16 only", {"dtype": "float32"}),
        ("odd number of queries or keys", {"queries": 63}),
        ("odd number of queries or keys", {"keys": 65}),
        ("head size 68 is no multiple of 8", {"size": 68}),
        ("head size 512 is above 256", {"size": 512}),
        ("grouped-query", {"kv_heads": 2}),
        ("random mask of its own", {"dropped": True}),
        ("no segment ids", {"mask": Mask.segments(IDS)}),
        ("its window only reaches back", {"mask": Mask(window=3)}),
        ("wrong for 128 queries and 256 keys", {"mask": Mask(causal=True), "keys": 256}),
        ("together with lengths was not verified", {"mask": Mask(causal=True) & LENGTHS}),
        ("nan where T or S is 64 beyond", {"mask": LENGTHS, "keys": 192}),
        ("it counts queries from 0", {"mask": Mask(causal=True).of_queries(128, 128)}),
    ],
)
def test_each_refusal_says_why(monkeypatch, reason, call):
    monkeypatch.setattr(cudnn, "current_device", lambda: H200)
    refusals = _refusals(**call)
    assert len(refusals) == 1
    assert reason in refusals[0]


@pytest.mark.parametrize("mask", [None, Mask(causal=True), LENGTHS, LENGTHS & Mask(query_lengths=jnp.array([1, 2]))])
def test_what_it_takes_on_an_h200(monkeypatch, mask):
    monkeypatch.setattr(cudnn, "current_device", lambda: H200)
    assert _refusals(mask=mask) == []


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_elsewhere_it_is_refused_and_never_replaced():
    q, k, v, _ = random_inputs(queries=6, keys=8, size=64, dtype="bfloat16")
    with pytest.raises(NotImplementedError, match="cudnn: it needs an NVIDIA GPU, not"):
        attention(q, k, v, implementation="cudnn")
