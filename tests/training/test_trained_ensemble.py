"""Trained runs that translate together."""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path

import jax
import pytest

import jaxformer
from jaxformer import training
from jaxformer.config import Config, replace
from jaxformer.data.tokenizer import train_tokenizer
from jaxformer.training.workdir import Workdir, evaluation_config
from jaxformer.types import Pair
from tests.training import reversal

TEXTS = ["1 2 3", "9 4", "", "7 7 5 9"]


@pytest.fixture(scope="module", autouse=True)
def no_compilation_cache():
    yield
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Config, list[Path]]:
    """Two seeds, the second of another size."""
    folder = tmp_path_factory.mktemp("runs")
    data = reversal.write_corpus(folder / "data", train=300, held_back=0)
    config = reversal.config(data, training__num_steps=8, training__ema_decay=0.0)
    training.train(config, folder / "a")
    training.train(replace(config, {"training.seed": 1, "model.d_ff": 24}), folder / "b")
    return config, [folder / "a", folder / "b"]


def test_runs_translate_together(runs, caplog):
    caplog.set_level(logging.INFO)
    first, second = runs[1]
    together = jaxformer.load_translator(first, ensemble=str(second))
    assert [one.score for one in together.translate(TEXTS)] == [
        one.score for one in jaxformer.load_translator(first, ensemble=f" {second} ,").translate(TEXTS)
    ]
    pairs = [("1 2 3", "3 2 1"), ("9 4", "4 9")]
    scores = [one.log_prob for one in together.score(pairs)]
    alone = [[one.log_prob for one in jaxformer.load_translator(run).score(pairs)] for run in (first, second)]
    assert all(sum(pair) / 2 < score for score, *pair in zip(scores, *alone, strict=True))  # log is concave
    run = Workdir(first)
    found = evaluation_config(run, {"decoding.ensemble": str(second)})
    output = io.StringIO()
    training.predict(found, run, TEXTS, output)
    assert output.getvalue() == "".join(f"{one.text}\n" for one in together.translate(TEXTS))
    assert f"; together with {second}: the parameters of step 8, the newest" in caplog.text


def test_what_cannot_translate_together_is_refused(runs, tmp_path):
    config, (first, second) = runs
    for mode in (training.train, training.plan):
        with pytest.raises(ValueError, match=r"decoding.ensemble=x is for --mode=predict and evaluate"):
            mode(replace(config, {"decoding.ensemble": "x"}), tmp_path / "run")
    with pytest.raises(OSError, match=r"decoding.ensemble: workdir .*nowhere is not there"):
        jaxformer.load_translator(first, ensemble=f"{second},{tmp_path / 'nowhere'}")
    other = shutil.copytree(second, tmp_path / "other")
    pairs = [Pair(f"{number} 2 3 4 5 6 7 8 9 0", "0 1 2 3 4 5 6 7 8") for number in range(9)]
    train_tokenizer(pairs, replace(config.data, {"vocabulary_size": 16})).save(other / "tokenizer.model")
    with pytest.raises(ValueError, match=r"the vocabulary of .*other is not that of"):
        jaxformer.load_translator(first, ensemble=str(other))


def test_runs_of_the_other_direction_and_of_other_tasks_are_refused(runs, tmp_path):
    _, (first, second) = runs
    run = Workdir(shutil.copytree(second, tmp_path / "other"))
    same = run.load_config()
    run.keep_config(replace(same, {"data.reverse": True}))
    with pytest.raises(ValueError, match=r"other translates from de to en, and .*a the other way round"):
        jaxformer.load_translator(first, ensemble=str(run.path))
    run.keep_config(replace(same, {"data.reverse": True, "data.source_language": "de", "data.target_language": "en"}))
    jaxformer.load_translator(first, ensemble=str(run.path))
    run.keep_config(replace(same, {"task.kind": "text_classification", "training.best_metric": "validation/loss"}))
    with pytest.raises(ValueError, match=r"other does not translate, its task.kind is text_classification"):
        jaxformer.load_translator(first, ensemble=str(run.path))
