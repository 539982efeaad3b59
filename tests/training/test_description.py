"""What a run's log says: TF32 where a GPU has it, and the attention that a device calls."""

from __future__ import annotations

import jax
import pytest

from jaxformer.ops import Mask
from jaxformer.ops.attention import Call
from jaxformer.training.description import describe_precision, from_own_positions
from jaxformer.training.planner.share import abstract_layout


class Device:
    def __init__(self, platform, capability=None):
        self.platform = platform
        if capability is not None:
            self.compute_capability = capability


@pytest.mark.parametrize(
    ("precision", "device", "stated"),
    [
        ("fp32", Device("gpu", "9.0"), True),
        ("fp32", Device("gpu", "8.0"), True),
        ("fp32", Device("gpu", "7.5"), False),
        ("fp32", Device("gpu", "gfx90a"), False),
        ("fp32", Device("cpu"), False),
        ("bf16", Device("gpu", "9.0"), False),
    ],
)
def test_tf32_is_stated_where_it_is_used(precision, device, stated):
    text = describe_precision(precision, device)
    assert text.startswith(precision)
    assert ("TF32" in text) == stated


def test_full_precision_is_not_called_tf32():
    with jax.default_matmul_precision("highest"):
        assert describe_precision("fp32", Device("gpu", "9.0")) == "fp32"


def test_attention_is_described_as_a_device_that_gathers_keys_calls_it():
    q, k = (jax.ShapeDtypeStruct((2, 16, heads, 8), "float32") for heads in (4, 2))
    mask = Mask.segments(jax.ShapeDtypeStruct((2, 16), "int32")) & Mask(causal=True)
    call = Call(q, k, mask, 0.0)
    assert from_own_positions(call, abstract_layout(1, 1, 2, 1)) is call  # heads are exchanged
    own = from_own_positions(call, abstract_layout(1, 1, 4, 1))
    assert (own.q.shape, own.k.shape) == ((2, 4, 4, 8), k.shape)
    assert own.mask.query_segment_ids.shape == (2, 4)
    assert own.mask.key_segment_ids.shape == (2, 16)
    assert own.mask.offset_matters(dropped=False)
