"""What a run's log says of its precision: TF32 is stated where a GPU has it."""

from __future__ import annotations

import jax
import pytest

from jaxformer.training.description import describe_precision


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
