"""Sentiment, end to end: it learns what word counts cannot, and its workdir classifies text."""

from __future__ import annotations

import html
import io
import json
import logging
import re

import jax
import numpy as np
import pytest

import experiments
import jaxformer
from jaxformer import training
from jaxformer.config import replace
from jaxformer.data.classify import LABEL
from jaxformer.data.labelled import LabelledDataset, Labels
from jaxformer.training.studies.text_classification import TextClassificationStudy, Texts
from jaxformer.training.workdir import Workdir
from jaxformer.types import EOS_ID
from tests.compiling import optimized


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The bundled recipe with a smaller corpus."""
    folder = tmp_path_factory.mktemp("sentiment")
    config = replace(
        experiments.find("sentiment").config("bundled"),
        {
            "data": {"cache_dir": str(folder / "cache"), "num_examples": 6000, "num_shapes": 1},
            "monitoring": {"progress": False, "tensorboard": False, "samples": 4},
            "training": {"num_steps": 400, "eval_every": 200, "checkpoint_every": 200},
        },
    )
    workdir = Workdir(folder / "run")
    with optimized():
        result = training.train(config, workdir)
    yield config, workdir, result
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


def test_it_learns_negation_and_contrast_which_naive_bayes_cannot(trained):
    _, workdir, result = trained
    accuracy, rivals = result["metrics"]["test/accuracy"], result["baselines"]
    assert accuracy > 0.93
    assert 0.5 < rivals["naive Bayes"]["test/accuracy"] < accuracy - 0.1
    assert abs(rivals["most frequent"]["test/accuracy"] - 0.5) < 0.05
    assert rivals["most frequent"]["test/mcc"] == 0.0
    assert result["metrics"]["test/calibration_error"] < 0.15
    assert json.loads(workdir.facts.read_text())["names"] == ["negative", "positive"]


def test_the_workdir_holds_pictures_a_page_and_the_predictions(trained):
    _, workdir, result = trained
    for name in ("learning-curve.png", "calibration.png", "confusion.png"):
        assert (workdir.report / name).read_bytes().startswith(b"\x89PNG"), name
    page = (workdir.report / "words.html").read_text()
    assert page.count("<tr>") == 60
    assert "60 texts of the test split" in page
    rows = [line.split("\t") for line in (workdir.predictions / "test.tsv").read_text().splitlines()]
    assert rows[0] == ["label", "predicted", "probability", "text"]
    assert len(rows) == 1001
    right = np.mean([label == found for label, found, _, _ in rows[1:]])
    assert right == pytest.approx(result["metrics"]["test/accuracy"])


def test_evaluate_finds_the_same_scores(trained, capsys):
    config, workdir, result = trained
    scores = training.evaluate(config, workdir)
    assert scores == pytest.approx({name: x for name, x in result["metrics"].items() if not name.startswith("train/")})
    assert "1,000 texts" in capsys.readouterr().out


def test_predict_answers_line_by_line_with_probabilities(trained, caplog):
    config, workdir, _ = trained
    output = io.StringIO()
    long = "the film is dull and " * 40 + "long"
    lines = ["the plot is far from boring .", "", "although the cast is superb , the plot is dull .", long]
    with caplog.at_level(logging.WARNING):
        training.predict(config, workdir, iter(lines), output)
    rows = [line.split("\t") for line in output.getvalue().split("\n")]
    assert [row[0] for row in rows[:3]] == ["positive", "", "negative"]
    shares = [float(share.partition("=")[2]) for share in rows[0][1:]]
    assert [share.partition("=")[0] for share in rows[0][1:]] == ["negative", "positive"]
    assert sum(shares) == pytest.approx(1.0, abs=2e-4)
    assert rows[1:2] == [[""]]
    assert len(rows) == 5
    assert any("classified by their beginning: line 4" in message for message in caplog.messages)


def test_a_trained_run_classifies_from_python(trained):
    _, workdir, _ = trained
    classifier = jaxformer.load_predictor(workdir.path)
    found, nothing = classifier.classify(["we loved the music .", "\xad"])
    assert nothing.label == ""
    assert found.label == "positive"
    assert found.probabilities["positive"] > 0.5
    with pytest.raises(ValueError, match=r"got one str: write \[text\]"):
        classifier.classify("we loved the music .")
    with pytest.raises(ValueError, match=r"does not translate, its task.kind is text_classification: use jf.load_pred"):
        jaxformer.load_translator(workdir.path)


def test_a_person_who_types_is_answered_at_once(trained, capsys):
    config, workdir, _ = trained
    output = io.StringIO()
    training.predict(config, workdir, iter(["i hated the plot ."]), output, interactive=True)
    assert output.getvalue().startswith("negative\t")
    assert capsys.readouterr().err == "text> text> \n"


@pytest.mark.slow  # one of them is that of the networks below
@pytest.mark.parametrize("pooling", ["cls", "mean", "convolution"])
def test_other_poolings_and_balanced_classes_train(trained, tmp_path, pooling):
    changes = {
        "task.pooling": pooling, "task.class_weights": "balanced", "task.token_dropout": 0.1, "training.num_steps": 4,
        "training.eval_every": 0, "data.num_examples": 300, "model.num_encoder_layers": 1,
    }  # fmt: skip
    assert training.train(replace(trained[0], changes), tmp_path / "run")["step"] == 4


@pytest.mark.slow
def test_several_networks_that_know_words_by_their_spelling_train_and_classify(trained, tmp_path):
    changes = {
        "data.tokenizer": "word", "data.vocabulary_size": 60, "data.spelling": 200, "task.members": 2,
        "task.linear_members": 1, "task.token_dropout": 0.3, "task.pooling": "convolution",
        "task.class_weights": "balanced", "training.num_steps": 8, "training.eval_every": 8,
        "data.num_examples": 300, "monitoring.samples": 0, "model.num_encoder_layers": 1,
    }  # fmt: skip
    config, workdir = replace(trained[0], changes), Workdir(tmp_path / "run")
    result = training.train(config, workdir)
    page = (workdir.report / "words.html").read_text()
    assert page.count("<tr>") == 60
    texts = {line.split("\t")[-1] for line in (workdir.predictions / "test.tsv").read_text().splitlines()[1:]}
    cells = [row.split("</td>")[0] for row in page.split("</td><td>")[1:]]
    shown = [" ".join(re.findall("<span[^>]*>(.*?)</span>", cell)) for cell in cells]
    assert {html.unescape(row) for row in shown} <= texts  # with the words that the vocabulary lacks
    measured = [json.loads(line) for line in workdir.metrics.read_text().splitlines()]
    (nll,) = [one["validation/nll"] for one in measured if "validation/nll" in one]
    assert nll == pytest.approx(result["metrics"]["validation/nll"], rel=1e-5)  # of what they believe together
    again = training.evaluate(config, workdir)
    assert again["test/brier"] == pytest.approx(result["metrics"]["test/brier"], rel=1e-4)
    classifier = jaxformer.load_predictor(workdir.path)
    one, other = classifier.classify(["we loved the unheardof .", "we loved the otherwise ."])
    assert one.probabilities != other.probabilities  # both words are unknown


def test_packing_is_refused_for_labels_of_whole_texts(trained, tmp_path):
    config = replace(trained[0], {"data.batching": "pack"})
    for call in (training.train, training.plan):
        with pytest.raises(ValueError, match=r"whole records do not allow: set --config.data.batching=bucket"):
            call(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_likelihood_is_that_of_what_members_believe_together():
    split = Texts(LabelledDataset.from_lists([np.array([EOS_ID], np.int32)] * 2, {
        LABEL: Labels.records(np.array([0, 1], np.int32))
    }), ["", ""], ("negative", "positive"))  # fmt: skip
    study = TextClassificationStudy(experiments.find("sentiment").config("bundled"))
    members = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.3, 0.7], [0.1, 0.9]]])[:, :, None]
    found = study.measure(split, {LABEL: members.mean(axis=0)})["nll"]
    assert found == pytest.approx(-(np.log(0.6) + np.log(0.7)) / 2)
    assert found < np.mean([study.measure(split, {LABEL: one})["nll"] for one in members])


@pytest.mark.data
def test_sst2_is_read_as_it_is(tmp_path):
    from jaxformer.data.classify import prepare_texts
    from jaxformer.data.labelled_text import expanded

    config = experiments.find("sentiment").config("sst2").data
    if not expanded(config.path).is_dir():
        pytest.skip(f"{config.path} is not there")
    data = prepare_texts(replace(config, {"num_examples": 2000, "vocabulary_size": 1000}), first=False)
    assert len(data.splits["validation"].texts) == 872
    assert data.names == ("negative", "positive")
