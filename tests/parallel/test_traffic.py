"""What travels by formula, by hand; `test_layouts` holds the same formulas to compiled steps."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType

from jaxformer.config import ModelConfig
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import AXES
from jaxformer.parallel.traffic import Exchange, Step, encoder_exchanges, exchanges, parts_of

MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=4, num_kv_heads=2, num_encoder_layers=3, num_decoder_layers=2)


def layout(**sizes: int) -> Layout:
    types = (AxisType.Auto,) * len(AXES)
    return Layout(AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES, axis_types=types))  # type: ignore[arg-type]


def params() -> dict[str, nnx.Param]:
    """A table, a stacked kernel of a layer, and its bias."""

    def abstract(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32)

    return {
        "table": nnx.Param(abstract(40, 8), dims=("vocabulary", "model")),
        "kernel": nnx.Param(abstract(2, 8, 16), dims=("model", "feed_forward")),
        "bias": nnx.Param(abstract(2, 16), dims=("feed_forward",)),
    }


def found(
    accumulate: int = 1, model: ModelConfig = MODEL, **sizes: int
) -> dict[tuple[str, str, tuple[str, ...]], int]:
    place = layout(**sizes)
    every = exchanges(place, parts_of(place, params()), Step(model, 2, accumulate), (4, 6, 5))
    return {(one.what, one.kind, one.axes): one.bytes for one in every}


def test_one_device_exchanges_nothing() -> None:
    assert found() == {}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_travel_once_a_step_in_float32(accumulate: int) -> None:
    assert found(accumulate, data=4) == {("gradients", "all-reduce", ("data",)): 4 * (320 + 256 + 32)}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_matrices_stored_in_parts_travel_in_every_micro_batch(accumulate: int) -> None:
    assert found(accumulate, data=2, fsdp=4) == {
        ("parameters", "all-gather", ("fsdp",)): accumulate * 2 * (320 + 2 * 256),
        ("gradients", "reduce-scatter", ("fsdp",)): accumulate * 4 * (320 + 256),
        ("gradients", "all-reduce", ("data",)): 4 * (320 + 256) // 4,
        ("gradients", "all-reduce", ("data", "fsdp")): 4 * 32,
    }


def test_activations_are_summed_where_layers_are_split() -> None:
    source = 1 + 3 * 4 + 2 * 1  # the embedding; the encoder; attention to it
    target = 1 + 2 * 6
    assert found(tensor=2) == {
        ("activations", "all-reduce", ("tensor",)): 2 * 4 * 8 * (6 * source + 5 * target),
        ("gradient of the output", "all-reduce", ("tensor",)): 4 * 4 * 8 * 5,
    }


def test_heads_are_exchanged_for_positions() -> None:
    for kv_heads, tensor in ((2, 1), (4, 2)):
        own, keys = 2 * 8, 2 * 2 * kv_heads  # queries and results; keys and values, perhaps of half as many heads
        encoder = 3 * 6 * (own + keys)
        decoder = 2 * (5 * (own + keys) + 5 * own + 6 * keys)
        sent = found(model=dataclasses.replace(MODEL, num_kv_heads=kv_heads), context=2, tensor=tensor)
        both_ways = 2 * 2 * 4 * (encoder + decoder)
        assert sent["heads for positions", "all-to-all", ("context",)] == both_ways // tensor


def test_keys_and_values_are_gathered_where_heads_do_not_divide() -> None:
    whole = 4 * 2 * 4 * ((3 + 2) * 6 + 2 * 5) * 4  # rows, both, of half as many heads, keys, devices
    for sizes in ({"context": 4}, {"fsdp": 2, "context": 4}, {"tensor": 2, "context": 4}):
        sent, tensor = found(3, **sizes), sizes.get("tensor", 1)
        assert sent["keys and values", "all-gather", ("context",)] == 3 * 2 * whole // tensor
        assert sent["gradients of keys and values", "reduce-scatter", ("context",)] == 3 * 4 * whole // tensor
        assert "all-to-all" not in {kind for _, kind, _ in sent}


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_what_is_computed_again_is_exchanged_again(norm: str) -> None:
    def sent(remat: str, **sizes: int) -> dict[str, tuple[int, int]]:
        place, model = layout(**sizes), dataclasses.replace(MODEL, norm_position=norm)
        every = exchanges(place, parts_of(place, params()), Step(model, 2, remat=remat), (4, 6, 5))
        return {one.what: (one.elements, one.count) for one in every}

    more = {"pre": (1, 2), "post": (2, 3)}[norm]  # sums of a layer of the encoder and of the decoder
    once, again = (sent(remat, tensor=2) for remat in ("none", "dots"))
    elements, count = (b - a for a, b in zip(once["activations"], again["activations"], strict=True))
    assert (elements, count) == (4 * 8 * (6 * 3 * more[0] + 5 * 2 * more[1]), 3 * more[0] + 2 * more[1])
    assert once["gradient of the output"] == again["gradient of the output"]
    once, again = (sent(remat, context=2)["heads for positions"] for remat in ("none", "full"))
    assert again == tuple(3 * number // 2 for number in once)
    once, again = (sent(remat, context=4) for remat in ("none", "full"))
    assert again["keys and values"] == tuple(2 * number for number in once["keys and values"])
    assert once["gradients of keys and values"] == again["gradients of keys and values"]
    assert sent("none", data=2, fsdp=2) == sent("full", data=2, fsdp=2)


def encoder(**sizes: int) -> dict[str, tuple[str, int, int]]:
    """Of an encoder of three layers that reads tokens, pools twice, and forecasts."""
    place = layout(**sizes)
    found = encoder_exchanges(place, [], Step(MODEL, 2, 3), (4, 6), pooled=2 * 8, forecast=5)
    return {one.what: (one.kind, one.bytes, one.count) for one in found}


def test_an_encoder_sums_four_times_a_layer_and_pools_over_positions() -> None:
    assert encoder(data=2, fsdp=2) == {}
    assert encoder(tensor=2) == {"activations": ("all-reduce", 3 * 2 * 4 * 8 * 6 * (1 + 3 * 4), 3 * 13)}
    turns = 3 * 2 * 4 * 6 * 3 * (2 * 8 + 2 * 4)  # micro-batches, there and back, rows, slots, layers
    assert encoder(context=2) == {
        "heads for positions": ("all-to-all", 2 * turns, 3 * 8 * 3),
        "pooled rows": ("all-reduce", 3 * 2 * 4 * 16 * 4, 3 * 2),
        "forecasts": ("all-reduce", 3 * 2 * 4 * 5 * 2, 3 * 2),
    }
    place = layout(tensor=2)
    (numbers,) = encoder_exchanges(place, [], Step(MODEL, 2), (4, 6), tokens=False)
    assert numbers.count == 3 * 4, "numbers are no pieces of a vocabulary that is split"


def test_heads_are_gathered_once() -> None:
    place = layout(fsdp=4)
    head = nnx.Param(jax.ShapeDtypeStruct((8, 3), np.float32), dims=("model", "outputs"))
    gathered = encoder_exchanges(place, parts_of(place, {"head": head}), Step(MODEL, 2), (4, 6))[0]
    assert (gathered.kind, gathered.elements, gathered.count) == ("all-gather", 24, 1)


def test_rings_send_the_part_of_the_others() -> None:
    place = layout(data=2, fsdp=4)
    assert Exchange("x", "all-gather", ("fsdp",), 100, 2, 1).sent(place) == 3 / 4 * 200
    assert Exchange("x", "all-reduce", ("data", "fsdp"), 100, 4, 1).sent(place) == 2 * 7 / 8 * 400
