"""What a run's log says: TF32 where a GPU has it, and the attention that a device calls."""

from __future__ import annotations

import json
import logging
import types

import jax
import pytest

from jaxformer.config import Config, MeshConfig, replace
from jaxformer.data.bucketing import Shape
from jaxformer.ops import Mask
from jaxformer.ops.attention import Call, choice, load_measurements
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training import description
from jaxformer.training.description import describe_decisions, describe_precision, from_own_positions
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


def _call(length, mask=None):
    q = jax.ShapeDtypeStruct((2, length, 4, 8), "float32")
    return Call(q, q, mask, 0.0)


@pytest.fixture
def table(tmp_path):
    """Loads a table with these milliseconds of implementations, by length and mask."""

    def load(times):
        case = {"device": choice.current_device().device_kind, "head_size": 8, "dtype": "float32", "dropout": False}
        entries = [
            {**case, "length": length, "mask": mask, "milliseconds": found} for (length, mask), found in times.items()
        ]
        file = tmp_path / "table.json"
        file.write_text(json.dumps({"format": 1, "measurements": entries}))
        load_measurements(file)

    yield load
    choice.forget_measurements()


def test_calls_that_are_decided_alike_are_told_in_the_line_of_the_longest_causal_one():
    text = describe_decisions([_call(64), _call(64, Mask(causal=True)), _call(16, Mask(causal=True)), _call(16)])
    assert "\n" not in text
    assert text.startswith("attention uses xla: nothing was measured for ")
    assert "up to 64 positions" in text
    assert "mask causal, " in text
    assert "likewise" not in text


def test_every_distinct_decision_has_a_line_that_says_for_what_else_it_holds(table, caplog):
    table({(64, "causal"): {"xla_chunked": 1.0, "xla": 2.0}, (64, "none"): {"xla_chunked": 2.0, "xla": 3.0}})
    text = describe_decisions([_call(64), _call(64, Mask(causal=True)), _call(16, Mask(causal=True)), _call(16)])
    first, second = text.splitlines()
    assert first.startswith("attention uses xla_chunked: measured in ms for ")
    assert "mask causal, " in first
    assert first.endswith(": xla_chunked 1, xla 2; likewise for up to 64 positions, mask none")
    assert second.startswith("attention uses xla: nothing was measured for ")
    assert second.endswith("; likewise for up to 16 positions, mask none")
    assert not caplog.records


def test_a_pinned_implementation_that_refuses_is_warned_of(table, caplog):
    table({(64, "none"): {"cudnn": 1.0, "xla": 2.0}, (64, "causal"): {"xla": 1.0}})
    with caplog.at_level(logging.WARNING):
        text = describe_decisions([_call(64), _call(64), _call(64, Mask(causal=True))])
    (record,) = caplog.records
    assert record.getMessage().startswith("model.attention_table has cudnn as the fastest for cpu, up to 64 ")
    assert "attention uses xla: " in record.getMessage()
    assert "(refused by cudnn: " in record.getMessage()
    assert [line.partition(":")[0] for line in text.splitlines()] == ["attention uses xla"] * 2


def test_a_run_tells_of_encoder_decoder_and_cross_attention_and_of_short_rows(table):
    table({(64, "causal+segments"): {"xla_chunked": 1.0}})
    model = {"d_model": 32, "d_ff": 32, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 1}
    sizes = types.SimpleNamespace(source_vocabulary_size=9, target_vocabulary_size=9)
    task = TranslationTask(replace(Config(), {"model": model}), sizes)
    pipeline = types.SimpleNamespace(shapes=[Shape(16, 16, 16), Shape(4, 60, 60), Shape(4, 64, 64)])
    first, second = description._attention(task, pipeline, make_layout(MeshConfig(data=1)), 1).splitlines()
    assert {first.partition(":")[0], second.partition(":")[0]} == {"attention uses xla", "attention uses xla_chunked"}
    (rule,) = [line for line in (first, second) if line.startswith("attention uses xla:")]
    for case in ("up to 64 positions, mask segments", "up to 16 positions, mask segments"):
        assert case in rule
    assert "causal+segments" in first + second


@pytest.mark.parametrize(
    ("data", "devices", "rows", "told"),
    [({}, 1, 46, ""), ({}, 8, 40, "such as 8"), ({"row_multiple": 8}, 8, 40, ""), ({"batching": "pack"}, 8, 40, ""),
     ({"row_multiple": 6}, 4, 36, "such as 12")],
)  # fmt: skip
def test_a_mesh_that_changes_the_batches_says_what_does_not(data, devices, rows, told):
    config = replace(Config(), {"data": {"batch_tokens": 512, "max_length": 16, **data}})
    pipeline = types.SimpleNamespace(shapes=(Shape(rows, 10, 11),))
    text = description._fewer_rows(config, pipeline, abstract_layout(devices, 1, 1, 1))
    assert told in text
    assert bool(text) == bool(told)
    halves = description._fewer_rows(config, pipeline, abstract_layout(devices, 1, 2, 1))
    assert ("multiples of 2 for mesh.context" in halves) == (config.data.batching == "bucket")
