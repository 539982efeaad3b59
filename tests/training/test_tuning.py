"""The calls of a run are found, timed and written to a table that a run is then pinned to."""

from __future__ import annotations

import io
import json
import logging

import jax
import jax.numpy as jnp
import pytest

from jaxformer import training
from jaxformer.config import Config, replace
from jaxformer.ops.attention import IMPLEMENTATIONS, Mask, attention, forget_measurements, recorded_calls
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training import tuning
from jaxformer.training.workdir import Workdir
from tests.training import reversal

CONFIG = replace(Config(), {
    "model": {"d_model": 32, "d_ff": 64, "num_heads": 4, "num_kv_heads": 2, "attention_dropout": 0.1,
              "num_encoder_layers": 1, "num_decoder_layers": 1},
    "data": {"vocabulary_size": 50},
})  # fmt: skip


class Sizes:
    source_vocabulary_size = target_vocabulary_size = 50


@pytest.fixture(autouse=True)
def clean_table():
    yield
    forget_measurements()
    jax.config.update("jax_compilation_cache_dir", None)


def _cases():
    task = TranslationTask(CONFIG, Sizes())
    return tuning.largest_by_case(tuning.attention_calls(task, [(6, 20, 24), (9, 12, 16), (12, 10, 12)]))


def test_every_kind_of_attention_is_found_once_for_each_length_with_its_largest_call():
    found = {(case.length, case.mask): call for case, call in _cases().items()}
    assert list(found) == [(16, "causal+segments"), (16, "segments"), (32, "causal+segments"), (32, "segments")]
    assert found[32, "causal+segments"].q.shape == (6, 24, 4, 8)
    assert found[32, "causal+segments"].k.shape == (6, 24, 2, 8)
    assert found[16, "causal+segments"].q.shape == (9, 16, 4, 8)  # 9 x 16 x 16 pairs: more than 12 x 12 x 12
    assert found[16, "segments"].k.shape == (9, 12, 2, 8)  # of the decoder's look at the source
    assert {call.dropout for call in found.values()} == {0.1}


def test_recording_ends_with_its_block_and_goes_inside_another():
    q = jnp.ones((1, 3, 2, 4))
    with recorded_calls() as outer:
        attention(q, q, q, mask=Mask(causal=True))
        with recorded_calls() as inner:
            attention(q, q[:, :2], q[:, :2], dropout=0.5)
    attention(q, q, q)
    assert [call.mask for call in outer] == [Mask(causal=True)]
    assert [(call.k.shape, call.mask, call.dropout) for call in inner] == [((1, 2, 2, 4), None, 0.0)]  # no seed


def test_what_takes_the_call_is_timed_and_what_does_not_says_why():
    case, call = next(iter(_cases().items()))
    found = tuning.measure(case, call, rounds=1)
    assert set(found.milliseconds) == {"xla", "xla_chunked"}
    assert all(0 < value < 1e4 for value in found.milliseconds.values())
    assert found.refused["pallas"] == found.refused["mosaic"] == "only interpreted here"
    assert "cudnn" in found.refused
    text = tuning.describe_measured(found)
    assert text.splitlines()[0].endswith("with dropout; timed on B 9, T 16, S 16, N 4, K 2")
    assert len(text.splitlines()) == 6


def test_a_wrong_implementation_is_not_timed(monkeypatch):
    def wrong(q, k, v, **kwargs):
        return 1.01 * IMPLEMENTATIONS["xla"](q, k, v, **kwargs)

    monkeypatch.setitem(IMPLEMENTATIONS, "xla_chunked", wrong)
    case, call = next(iter(_cases().items()))
    found = tuning.measure(case, call, rounds=1)
    assert list(found.milliseconds) == ["xla"]
    assert found.refused["xla_chunked"].startswith("WRONG here: differs from xla")


@pytest.mark.slow
def test_a_run_is_pinned_to_the_table_that_tune_wrote(tmp_path, caplog, monkeypatch):
    def measured(case, call):
        return tuning.Measured(case, call, {"xla": 2.0, "xla_chunked": 1.0}, {})

    monkeypatch.setattr(tuning, "measure", measured)  # how it times: `test_what_takes_the_call_is_timed_...`
    config = reversal.config(reversal.write_corpus(tmp_path / "data", held_back=0), training__num_steps=3)
    file = tmp_path / "table.json"
    with caplog.at_level(logging.INFO):
        training.tune(config, str(file))
    assert any("forward and backward" in message for message in caplog.messages)
    table = json.loads(file.read_text())
    assert {entry["device"] for entry in table["measurements"]} == {"cpu"}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        training.train(replace(config, {"model.attention_table": str(file)}), tmp_path / "run")
    (line,) = [line for message in caplog.messages for line in message.splitlines() if "attention uses" in line]
    assert line.startswith("attention uses xla_chunked: measured in ms for cpu")
    assert json.loads(Workdir(tmp_path / "run").attention_table.read_text()) == table
    file.unlink()  # the run has its own copy
    training.predict(replace(config, {"model.attention_table": str(file)}), tmp_path / "run", ["1 2"], io.StringIO())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        training.train(config, tmp_path / "other")
    assert any("nothing was measured" in message for message in caplog.messages)  # a table is for its run alone


def test_a_table_that_cannot_be_used_is_refused_by_its_name_and_binds_nothing(tmp_path):
    config = reversal.config(reversal.write_corpus(tmp_path / "data", held_back=0))
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json must be an object"):
        training.train(replace(config, {"model.attention_table": str(bad)}), tmp_path / "run")
    missing = replace(config, {"model.attention_table": str(tmp_path / "none.json")})
    told = r"cannot read --config\.model\.attention_table=.*none\.json: No such file .*; give a file that --mode=tune "
    with pytest.raises(FileNotFoundError, match=told):
        training.train(missing, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=told):
        training.plan(missing, tmp_path / "run")
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(OSError, match=r"attention_table=.*bad\.json: it is not UTF-8; give a file that"):
        training.train(replace(config, {"model.attention_table": str(bad)}), tmp_path / "run")
    assert not Workdir(tmp_path / "run").config.exists()
