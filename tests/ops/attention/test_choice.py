"""The public function: what it refuses, which implementation it takes, and what it says about that."""

from __future__ import annotations

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.attention import choice, decide_attention, load_measurements
from jaxformer.ops.attention.api import IMPLEMENTATIONS
from tests.ops.attention.oracle import random_inputs


@pytest.fixture(autouse=True)
def _only_what_is_shipped():
    yield
    choice.forget_measurements()


def _entry(**changes):
    device = choice.current_device().device_kind
    return {"device": device, "length": 16, "head_size": 8, "mask": "none", "dtype": "float32", "dropout": False,
            "milliseconds": {"cudnn": 0.1, "xla_chunked": 0.5, "xla": 1.0}, **changes}


def _write(tmp_path, *entries, **changes):
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"format": 1, "measurements": list(entries), **changes}))
    return path


def test_wrong_shapes_and_names_are_refused_with_what_was_given():
    q, k, v, _ = random_inputs()
    with pytest.raises(ValueError, match=r"q \[B,T,N,H\]"):
        attention(q[0], k, v)
    with pytest.raises(ValueError, match="K must divide N"):
        attention(q, k[:, :, :3], v[:, :, :3])
    with pytest.raises(ValueError, match="'flash' is not one of xla, xla_chunked, pallas, mosaic, cudnn"):
        attention(q, k, v, implementation="flash")


def test_unmeasured_the_size_of_the_weights_decides():
    if any(case.device == choice.current_device().device_kind for case in choice._shipped()):
        pytest.skip("there are measurements of this device")
    q, k, _, _ = random_inputs()
    assert choice.prefer(q, k, None, False).order[0] == "xla"
    long = jax.ShapeDtypeStruct((8, 16384, 4, 64), "bfloat16")
    assert choice.prefer(long, long, None, False).order[0] == "xla_chunked"
    said = str(decide_attention(long, long, mask=Mask(causal=True), dropout=0.1))
    assert said.startswith("attention uses xla_chunked: nothing was measured for ")
    assert said.endswith("weights of 3.277e+04 MiB would exceed 1024 MiB")


def test_unmeasured_on_a_hopper_gpu_our_kernels_come_first(monkeypatch):
    device = types.SimpleNamespace(device_kind="NVIDIA H300", compute_capability="9.0")
    monkeypatch.setattr(choice, "current_device", lambda: device)
    short, wide = (jax.ShapeDtypeStruct((8, 64, 4, 64), dtype) for dtype in ("bfloat16", "float32"))
    assert choice.prefer(short, short, None, False).order == ("mosaic", "xla", "xla_chunked")
    assert choice.prefer(wide, wide, None, False).order == ("xla", "xla_chunked"), "which it refuses"
    for refused in ((8, 16, 4, 64), (8, 64, 4, 256)):  # slower there; refused
        other = jax.ShapeDtypeStruct(refused, "bfloat16")
        assert choice.prefer(other, other, None, False).order == ("xla", "xla_chunked")
    device.compute_capability = "8.0"
    assert choice.prefer(short, short, None, False).order == ("xla", "xla_chunked")
    assert choice.prefer(short, short, None, False, "H200").order[0] == "mosaic", "a device that is not here"
    assert choice.prefer(short, short, None, False, "A100").order[0] == "xla"


def test_measured_the_fastest_that_does_not_refuse_is_used(tmp_path):
    q, k, v, _ = random_inputs()
    assert load_measurements(_write(tmp_path, _entry())) == 1
    assert choice.prefer(q, k, None, False).order == ("cudnn", "xla_chunked", "xla")
    said = str(decide_attention(q, k))
    assert said.startswith("attention uses xla_chunked: measured in ms for ")
    assert "cudnn 0.1, xla_chunked 0.5, xla 1 (refused by cudnn: cuDNN takes bfloat16 and float16 only" in said
    text = jax.jit(attention).lower(q, k, v).as_text()
    assert "stablehlo.while" in text  # chunked indeed
    assert choice.prefer(q, k, Mask(causal=True), False).order[0] == "xla"  # another case, not measured
    np.testing.assert_allclose(attention(q, k, v), attention(q, k, v, implementation="xla"), atol=1e-5)


def test_named_ones_never_fall_back():
    q, k, _, _ = random_inputs()
    assert str(decide_attention(q, k, implementation="xla")) == "attention uses xla: it was asked for by name"
    with pytest.raises(NotImplementedError, match="implementation of attention takes this call: pallas: head size 8"):
        decide_attention(q, k, implementation="pallas")


def test_the_kind_of_a_mask_names_its_parts():
    lengths = Mask(key_lengths=jnp.array([1]))
    assert choice.mask_kind(None) == choice.mask_kind(Mask()) == "none"
    assert choice.mask_kind(Mask(causal=True) & lengths) == "causal+lengths"
    assert choice.mask_kind(Mask(window=2) & Mask.segments(jnp.ones((1, 1), jnp.int32))) == "window+segments"


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("length must be of type int, got '16'", {"length": "16"}),
        ("length must be a power of 2, got 100; round up to 128", {"length": 100}),
        (r"mask must be \"none\" or some of", {"mask": "lengths+causal"}),
        ("dtype must be one of bfloat16", {"dtype": "bf16"}),
        ("has colour", {"colour": 1}),
        ("implementation 'flash' is not one of xla", {"milliseconds": {"flash": 1.0}}),
        ("milliseconds of xla must be a number above 0, got -1", {"milliseconds": {"xla": -1}}),
        ("milliseconds must be an object", {"milliseconds": {}}),
        ("pallas is interpreted on a cpu", {"device": "cpu", "milliseconds": {"pallas": 1.0}}),
    ],
)
def test_wrong_measurements_are_refused_with_their_place(tmp_path, message, changes):
    with pytest.raises(ValueError, match=f"measured.json, measurement 1.*{message}"):
        load_measurements(_write(tmp_path, _entry(), _entry(**changes)))
    assert not choice._LOADED  # nothing of a wrong file is used


def test_wrong_files_are_refused(tmp_path):
    wrong = {"{": "is not JSON", "[]": "\"format\": 1, got 'list'", '{"format": 1}': "must have a list"}
    for text, message in wrong.items():
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_measurements(tmp_path / "wrong.json")
    with pytest.raises(OSError, match="nowhere"):
        load_measurements(tmp_path / "nowhere.json")


def test_the_shipped_measurements_name_known_implementations():
    for times in choice._shipped().values():
        assert set(times) <= set(IMPLEMENTATIONS)
