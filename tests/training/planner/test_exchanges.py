"""What travels in a planned step, against the numbers that `tests/parallel/test_layouts.py` holds compiled steps to."""

from __future__ import annotations

import math

import pytest

from jaxformer.config import PlanConfig
from jaxformer.parallel.traffic import Exchange
from jaxformer.training.planner.exchanges import exchanges_of, seconds, starts
from jaxformer.training.planner.hardware import hardware_for
from jaxformer.training.planner.share import Candidate
from tests.training.planner.sizes import ROWS, SLOTS, D, share

F, V, SOURCE_ONLY = 64, 48, 16
ATTENTION, CROSS = 3 * D * D + D * D, D * D + 2 * D * D + D * D
LAYERS = 2 * ATTENTION + CROSS + 4 * D * F
TABLES = (V + SOURCE_ONLY) * D
# Biases of one layer each, and scales and biases of seven norms.
VECTORS = 2 * (3 * D + D) + (D + 2 * D + D) + 2 * (F + D) + 7 * 2 * D


def _found(candidate: Candidate, **changes) -> dict[str, float]:
    """Numbers, not bytes, by kind; all is in float32."""
    found: dict[str, float] = {}
    for one in exchanges_of(share(candidate, changes)):
        name = f"{one.kind} of {one.what} along {'+'.join(one.axes)}"
        assert name not in found
        found[name] = one.bytes / 4
    return found


def test_data_sums_every_gradient_once():
    once = {"all-reduce of gradients along data": LAYERS + TABLES + VECTORS}
    assert _found(Candidate(data=8)) == once
    assert _found(Candidate(data=8, accumulate=2)) == once
    assert _found(Candidate()) == {}


def test_fsdp_gathers_layers_twice_and_tables_once_in_a_micro_batch():
    assert _found(Candidate(fsdp=8, accumulate=2)) == {
        "all-gather of parameters along fsdp": 2 * (2 * LAYERS + TABLES),
        "reduce-scatter of gradients along fsdp": 2 * (LAYERS + TABLES),
        "all-reduce of gradients along fsdp": VECTORS,
    }
    both = _found(Candidate(data=2, fsdp=4))
    assert both["all-reduce of gradients along data"] == (LAYERS + TABLES) / 4
    assert both["all-reduce of gradients along data+fsdp"] == VECTORS


def test_tensor_sums_activations_fourteen_times():
    row = (ROWS // 4) * SLOTS * D
    found = _found(Candidate(data=4, tensor=2))
    assert found["all-reduce of activations along tensor"] == 13 * row
    assert found["all-reduce of gradient of the output along tensor"] == row
    # Of what is computed again, the last sum of a layer is not needed, but by a norm after it.
    again = _found(Candidate(data=4, tensor=2, remat="full"))
    assert again["all-reduce of activations along tensor"] == (13 + 1 + 2) * row
    after = _found(Candidate(data=4, tensor=2, remat="dots"), **{"model.norm_position": "post"})
    assert after["all-reduce of activations along tensor"] == (13 + 2 + 3) * row


@pytest.mark.parametrize("tensor", [1, 2])
def test_context_exchanges_heads_for_positions(tensor):
    found = _found(Candidate(data=8 // (2 * tensor), tensor=tensor, context=2))
    rows = ROWS // (8 // (2 * tensor))
    sent = found["all-to-all of heads for positions along context"]
    assert sent == 3 * 4 * 2 * rows * (SLOTS // 2) * D / tensor


def test_context_gathers_keys_and_values_where_heads_do_not_divide():
    whole = 3 * 2 * ROWS * SLOTS * D / 2  # of half of the heads, or of the rows
    for candidate, times, heads in (
        (Candidate(tensor=2, context=4), 1, 4),
        (Candidate(tensor=2, context=4, remat="dots"), 2, 4),
        (Candidate(fsdp=2, context=4), 1, 2),
    ):
        found = _found(candidate, **{"model.num_heads": heads})
        assert found["all-gather of keys and values along context"] == times * whole
        assert found["reduce-scatter of gradients of keys and values along context"] == whole
        assert "all-to-all of heads for positions along context" not in found


def test_a_short_precision_gathers_half_the_bytes_and_sums_gradients_in_full():
    short = {one.kind: one.bytes for one in exchanges_of(share(Candidate(fsdp=8), {"precision": "bf16"}))}
    assert short["all-gather"] == 2 * (2 * LAYERS + TABLES)
    assert short["reduce-scatter"] == 4 * (LAYERS + TABLES)


def test_an_exchange_takes_as_long_as_its_rings():
    hardware = hardware_for(PlanConfig(devices="16xH200"), "bf16")
    rates = hardware.rates
    sizes = {"data": 16, "fsdp": 1, "context": 1, "tensor": 1}
    one = Exchange("x", "all-reduce", ("data",), 2_000_000_000, 4, 1)
    # Within the two hosts 7 / 8 of the array, there and back; between them half of each device's eighth.
    expected = 2 * (7 / 8 * 8e9 / rates.link + 1 / 2 * 1e9 / rates.network) + 2 * rates.latency
    assert math.isclose(seconds(one, sizes, hardware), expected)
    # The inner axis stays within a host, the outer one leaves it: each device's neighbours are elsewhere.
    sizes = {"data": 2, "fsdp": 8, "context": 1, "tensor": 1}
    gather = Exchange("x", "all-gather", ("fsdp",), 2_000_000_000, 4, 3)
    assert math.isclose(seconds(gather, sizes, hardware), 7 / 8 * 8e9 / rates.link + 3 * rates.latency)
    outer = Exchange("x", "all-reduce", ("data",), 2_000_000_000, 4, 1)
    assert math.isclose(seconds(outer, sizes, hardware), 2 * 1 / 2 * 8e9 / rates.network + rates.latency)


def test_gradients_begin_to_travel_together():
    (gradients,) = exchanges_of(share(Candidate(data=8)))
    assert gradients.count > 20
    assert starts(gradients) == 1
    assert starts(Exchange("parameters", "all-gather", ("fsdp",), 8, 4, 20)) == 20
