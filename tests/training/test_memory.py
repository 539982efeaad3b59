"""A step's memory by its compiled program, and an out-of-memory error that says what to do."""

from __future__ import annotations

import re
import types

import jax
import jax.numpy as jnp
import pytest

from jaxformer.config import Config, DecodingConfig, MeshConfig, replace
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training import memory
from jaxformer.training.memory import OutOfMemory, explained_out_of_memory, step_memory, training_advice

LAYOUT = make_layout(MeshConfig(data=1))
CONFIG = replace(Config(), {
    "model": {"d_model": 64, "d_ff": 128, "num_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2},
    "data": {"batch_tokens": 2048, "vocabulary_size": 100},
})  # fmt: skip
SHAPE = (64, 32, 32)


class Sizes:
    source_vocabulary_size = target_vocabulary_size = 100


def _task(config, layout):
    return TranslationTask(config, Sizes(), layout)


def _too_much():
    jax.jit(lambda: jnp.zeros((1 << 22, 1 << 22)))().block_until_ready()  # 64 TiB


def test_the_state_is_counted_to_the_byte():
    config = replace(CONFIG, {"model": {"num_encoder_layers": 1, "num_decoder_layers": 1}})
    task = TranslationTask(config, Sizes())
    found = step_memory(config, task, LAYOUT, SHAPE)
    # Parameters and the two moments of Adam; besides, a few scalars.
    assert 0 <= found.state - 3 * 4 * task.num_parameters < 100
    assert found.total == found.state + found.temporary
    larger = step_memory(config, task, LAYOUT, (128, 32, 32))
    assert larger.state == found.state
    assert 1.7 < larger.temporary / found.temporary < 2.3


def test_a_devices_error_becomes_advice_and_other_errors_stay():
    with pytest.raises(OutOfMemory, match="buy more"), explained_out_of_memory(lambda: "buy more"):
        _too_much()
    with pytest.raises(jax.errors.JaxRuntimeError, match="mine"), explained_out_of_memory(lambda: "buy more"):
        raise jax.errors.JaxRuntimeError("INTERNAL: mine")


def _mebibytes(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) ([MG])iB", text).groups()
    return float(number) * (1024 if unit == "G" else 1)


@pytest.mark.slow
def test_the_advice_gives_what_each_setting_would_need():
    text = training_advice(CONFIG, _task, LAYOUT, SHAPE)
    head, *lines = text.splitlines()
    match = re.match(r"out of memory: a step on 64x\(32\+32\) slots needs (.*) on each device, and .* are free", head)
    now = _mebibytes(match[1])
    found = {setting: _mebibytes(size) for size, setting in (line.strip().split("  ") for line in lines)}
    assert set(found) == {
        "--config.memory.accumulate=2",
        "--config.data.batch_tokens=1024",
        "--config.precision=bf16",
        "--config.memory.remat=dots --config.model.scan_layers=true",
        "--config.memory.remat=full --config.model.scan_layers=true",
    }
    for setting in ("--config.memory.accumulate=2", "--config.data.batch_tokens=1024"):
        assert found[setting] < 0.8 * now, setting
    assert found["--config.memory.remat=full --config.model.scan_layers=true"] < now


EIGHT = types.SimpleNamespace(parts=lambda dim: 8, mesh=LAYOUT.mesh)
LEAST = {"precision": "bf16", "memory": {"remat": "full"}, "model.scan_layers": True}  # on a CPU


def test_only_settings_that_are_possible_are_advised():
    bf16 = replace(CONFIG, LEAST)
    found = [(setting, rows) for setting, _, rows in memory._cheaper(bf16, 89, EIGHT)]
    assert found == [("--config.memory.accumulate=2", 80), ("--config.data.batch_tokens=1024", 40)]
    assert [setting for setting, _, _ in memory._cheaper(bf16, 1, LAYOUT)] == []


_SCAN = "--config.model.scan_layers=true"


@pytest.mark.parametrize(
    ("remat", "scan", "platform", "offers"),
    [
        ("none", False, "cpu", [f"--config.memory.remat=dots {_SCAN}", f"--config.memory.remat=full {_SCAN}"]),
        ("dots", False, "cpu", [_SCAN, f"--config.memory.remat=full {_SCAN}"]),
        ("full", False, "cpu", [_SCAN]),
        ("full", True, "cpu", []),
        ("offload", True, "cpu", []),
        ("none", False, "gpu", [f"--config.memory.remat={remat}" for remat in ("dots", "full", "offload")]),
        ("dots", False, "gpu", ["--config.memory.remat=full", "--config.memory.remat=offload"]),
        ("offload", False, "gpu", []),
    ],
)
def test_the_policies_after_the_present_one_are_advised_with_scanning_where_they_need_it(remat, scan, platform, offers):
    config = replace(CONFIG, {"memory.remat": remat, "model.scan_layers": scan})
    found = dict(memory._recomputing(config, platform))
    assert list(found) == offers
    for setting, changes in found.items():
        told = (f"--config.{name}={str(value).replace('True', 'true')}" for name, value in changes.items())
        assert setting == " ".join(told)


def _advice(monkeypatch, limit, rows=64):
    """Of a step that needs 100 MiB, and 6,400 more by its micro-batches; other settings save nothing."""
    monkeypatch.setattr(memory, "_needed", lambda config, *_: (100 + 6400 // config.memory.accumulate) * 2**20)
    monkeypatch.setattr(memory, "host_memory", lambda: (0, limit * 2**20))
    return training_advice(CONFIG, _task, LAYOUT, (rows, 32, 32)).splitlines()


def test_where_nothing_fits_the_smallest_accumulation_that_would_is_told(monkeypatch):
    line = "  about 500 MiB  --config.memory.accumulate=16 (nothing above fits; scaled, not compiled)"
    assert _advice(monkeypatch, limit=600)[-1] == line
    assert "about" not in "".join(_advice(monkeypatch, limit=3300))  # accumulate=2 fits
    assert "about" not in "".join(_advice(monkeypatch, limit=600, rows=15))  # too few for 16 micro-batches
    assert "about" not in "".join(_advice(monkeypatch, limit=100))  # the state alone is too much


def test_advice_on_packed_batches_can_be_followed():
    packed = replace(CONFIG, {**LEAST, "data.batching": "pack"})
    three = replace(packed, {"data.pack_length": 2048, "data.batch_tokens": 6144, "data.max_length": 256})
    assert [setting for setting, _, _ in memory._cheaper(three, 3, LAYOUT)] == []  # neither divides into rows of 2048
    four = replace(three, {"data.batch_tokens": 8192})
    found = [(setting, rows) for setting, _, rows in memory._cheaper(four, 4, LAYOUT)]
    assert found == [("--config.memory.accumulate=2", 4), ("--config.data.batch_tokens=4096", 2)]


def test_advice_that_the_configuration_refuses_is_not_given():
    config = replace(CONFIG, {"data.max_length": 4096, "data.batch_tokens": 6000, "model.max_length": 4096})
    assert "batch_tokens" not in "".join(setting for setting, _, _ in memory._cheaper(config, 2, LAYOUT))


def test_where_compiling_needs_too_much_as_well_the_settings_are_named_alone(monkeypatch):
    monkeypatch.setattr(memory, "_needed", lambda *_: _too_much())
    text = training_advice(CONFIG, _task, LAYOUT, SHAPE)
    assert text.startswith("out of memory: a step on 64x(32+32) slots does not fit, ")
    assert "\n  --config.memory.accumulate=2\n" in text


def test_translating_has_advice_of_its_own():
    assert memory.decoding_advice(DecodingConfig()).endswith(
        "lower --config.decoding.batch_tokens (now 4096) or --config.decoding.beam_size (now 5)"
    )
    assert "beam" not in memory.decoding_advice(DecodingConfig(method="greedy"))
