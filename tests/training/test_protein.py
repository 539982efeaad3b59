"""The study of proteins through every entry point, on generated chains and on small files."""

from __future__ import annotations

import io
import re

import jax
import numpy as np
import pytest

import experiments
from jaxformer import training
from jaxformer.config import replace
from jaxformer.data.proteins import Chain, SyntheticChains
from jaxformer.training.study import open_study
from jaxformer.training.workdir import Workdir
from tests.compiling import optimized

PNG = b"\x89PNG"


def _config(folder, **changes):
    config = experiments.find("protein").config("bundled")
    base = {
        "data.cache_dir": str(folder / "cache"),
        "training.eval_every": 0,
        "training.checkpoint_every": 0,
        "monitoring.progress": False,
        "monitoring.tensorboard": False,
    }
    return replace(config, base | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protein")
    config = _config(
        folder, model__d_model=48, model__d_ff=96, model__num_heads=2, data__num_examples=1500, data__num_shapes=1,
        data__batch_tokens=2048, training__num_steps=240,
    )  # fmt: skip
    workdir = Workdir(folder / "run")
    with optimized():
        result = training.train(config, workdir)
    yield config, workdir, result
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


def test_it_learns_more_than_a_window_tells(trained):
    _, workdir, result = trained
    metrics, baselines = result["metrics"], result["baselines"]
    assert baselines["all coil"]["test/q3"] < 0.5 < baselines["window naive Bayes"]["test/q3"] < 0.72
    assert metrics["test/q3"] > baselines["window naive Bayes"]["test/q3"] + 0.03
    assert metrics["test/sov"] > baselines["window naive Bayes"]["test/sov"]
    assert 0.4 < metrics["test/q8"] < metrics["test/q3"]
    assert baselines["all coil"]["test/q8"] < baselines["window naive Bayes"]["test/q8"] < metrics["test/q8"]
    assert {"test/q8_f1_H", "test/q8_f1_E"} <= set(metrics) & set(baselines["window naive Bayes"])
    assert metrics["test/rsa_mae"] < min(0.17, baselines["all coil"]["test/rsa_mae"])
    for name in ("confusion-ss3.png", "confusion-ss8.png", "calibration.png", "chain.png", "learning-curve.png"):
        assert (workdir.report / name).read_bytes().startswith(PNG)


def test_the_table_says_how_many_residues_are_scored(trained):
    config, _, _ = trained
    study = open_study(config)
    chains, split = SyntheticChains("test"), study.prepare().splits["test"]
    scored = sum(len(chain) if chain.scored is None else int(chain.scored.sum()) for chain in chains)
    assert study.size(split) == f"{scored:,} residues of {len(chains):,} chains"


def test_predictions_of_the_test_split_are_written(trained):
    _, workdir, result = trained
    lines = (workdir.predictions / "test.txt").read_text().splitlines()
    chains = SyntheticChains("test")
    assert len(lines) == 5 * len(chains)
    assert lines[1] == chains[0].sequence
    assert lines[2] == chains[0].three
    shares = [float(line.partition("q3=")[2]) for line in lines[::5]]
    assert np.mean(shares) == pytest.approx(result["metrics"]["test/q3_chain"], abs=1e-3)


def test_evaluate_finds_the_same_scores(trained, capsys):
    config, workdir, result = trained
    with optimized():  # as it was trained and measured: other programs round otherwise
        scores = training.evaluate(config, workdir)
    assert scores == {name: x for name, x in result["metrics"].items() if not name.startswith("train/")}
    assert "test/q3" in scores
    assert "predictions of test" in capsys.readouterr().out


def _predict(trained, text, **changes):
    config, workdir, _ = trained
    output = io.StringIO()
    training.predict(replace(config, changes), workdir, iter(text.splitlines()), output)
    return output.getvalue()


def test_predict_reads_fasta_and_writes_structure_with_confidence(trained):
    chain = SyntheticChains("test")[3]
    text = f">first of two\n{chain.sequence[:20].lower()}\n{chain.sequence[20:]}\n>second\nMKV-XB*\n"
    lines = _predict(trained, text).splitlines()
    assert (lines[0], lines[1], lines[4], lines[5]) == (">first of two", chain.sequence, ">second", "MKVXB")
    for sequence, structure, confidence in (lines[1:4], lines[5:8]):
        assert re.fullmatch(f"[HEC]{{{len(sequence)}}}", structure)
        assert re.fullmatch(f"[3-9]{{{len(sequence)}}}", confidence)  # the likeliest of three has a third at least
    right = np.mean([one == other for one, other in zip(lines[2], chain.three, strict=True)])
    assert right > 0.5


def test_a_chain_of_2000_residues_is_predicted_in_windows(trained):
    sequence = "".join(chain.sequence for chain in SyntheticChains("test", 30))[:2000]
    lines = _predict(trained, f">long\n{sequence}\n").splitlines()
    assert [len(line) for line in lines[1:]] == [2000] * 3
    # Its first residues see the same, and are told the same, as in a chain of their own.
    config, _, _ = trained
    alone = _predict(trained, f">start\n{sequence[: config.data.max_length]}\n").splitlines()
    assert alone[2][:100] == lines[2][:100]


def test_a_split_of_which_no_chain_is_left_is_refused(tmp_path):
    table = "id\tseq\tss3\n"
    (tmp_path / "train.tsv").write_text(table + f"a\t{'MKVLA' * 8}\t{'HHECC' * 8}\n")
    (tmp_path / "val.tsv").write_text(table + "b\tMK1\tHHE\n")
    config = _config(tmp_path, data__source="files", data__path=str(tmp_path))
    with pytest.raises(ValueError, match="no chain of the validation split is left after cleaning"):
        open_study(config).prepare()


def test_no_chains_are_no_output(trained):
    assert _predict(trained, "") == ""


@pytest.mark.parametrize(
    ("text", "written", "said"),
    [
        (">good\nMKV\n>bad\nMK\nM4V\n", 1, "line 5: '4' in bad is no amino acid"),
        ("MKV\n", 0, "line 1: 'MKV' comes before any title"),
        (">empty\n\n", 0, "line 1: empty has no residues"),
    ],
)
def test_bad_input_is_refused_with_its_line_after_what_stands_before_it(trained, text, written, said):
    config, workdir, _ = trained
    output = io.StringIO()
    with pytest.raises(ValueError, match=said):
        training.predict(config, workdir, iter(text.splitlines()), output)
    assert output.getvalue().count(">") == written


def test_a_predictor_folds_chains_from_python(trained):
    predictor = training.load_predictor(trained[1].path)
    (folded,) = predictor.fold(["MKVLXA"])
    assert len(folded.structure) == len(folded.digits()) == 6
    assert predictor.fold([]) == []
    with pytest.raises(ValueError, match="chain 1 has no residues"):
        predictor.fold(["MK", ""])
    with pytest.raises(ValueError, match="'k' at residue 2"):
        predictor.fold(["Mk"])


def test_a_person_types_sequences(trained):
    config, workdir, _ = trained
    output = io.StringIO()
    training.predict(config, workdir, iter(["mkvl", "", "ACD"]), output, interactive=True)
    assert "MKVL" in output.getvalue()
    assert "ACD" in output.getvalue()


def _files(folder, rows, header="id\tseq\tss3\tmask"):
    (folder / "train.tsv").write_text("\n".join([header, *rows]) + "\n")
    return _config(folder, data__source="files", data__path=str(folder))


def test_cleaning_of_files_is_counted_and_what_both_splits_share_is_told(tmp_path):
    rows = ["a\tMKVL\tHHEC\t1110", "b\tMKV\tHH\t111", "c\tM1V\tHHH\t111", "d\tMKVL\tHHEC\t1111", "e\tMK\tHC\t00"]
    config = _files(tmp_path, rows)
    (tmp_path / "test.tsv").write_text("id\tseq\tss3\nx\tMKVL\tHHEC\ny\tAC\tCC\n")
    prepared = open_study(config).prepare()
    assert prepared.size == 1
    assert prepared.facts.values == {"parts": ["ss3"], "counts": {"ss3": [2.0, 1.0, 0.0]}}
    assert f"first: b ({tmp_path / 'train.tsv'}, line 3)" in prepared.report
    assert "test: 2 of 2 chains, 6 scored residues; 1 have a sequence that is trained on" in prepared.report
    assert prepared.train.labels["ss3"].weights.tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        (["a\tMKV\tHH\t111"], {}, "no training chain is left after cleaning"),
        (["a\tMKV\tHHH\t111"], {}, "is in state E or C: there is nothing to tell apart"),
        (["a\tMKV\tHHC\t111"], {"task.class_weights": "balanced"}, "state E never occurs among the training chains"),
    ],
)
def test_training_data_that_cannot_be_used_is_refused(tmp_path, rows, changes, said):
    config = replace(_files(tmp_path, rows), changes)
    with pytest.raises(ValueError, match=said):
        open_study(config).prepare()


def test_a_state_of_eight_that_never_occurs_outweighs_no_other(tmp_path, caplog):
    config = _files(tmp_path, ["a\tMKVLACDE\tGHBESTCC", "b\tMKVLA\tHCCSS"], header="id\tseq\tss8")
    prepared = open_study(config).prepare()
    assert not caplog.records
    balanced = open_study(replace(config, {"task.class_weights": "balanced"}))
    weights = balanced.make_task(balanced.prepare().facts).objectives["ss8"].class_weights
    counts = np.array(prepared.facts.values["counts"]["ss8"])
    assert counts.tolist() == [2, 1, 0, 1, 1, 1, 3, 4]  # H G I E B T S C
    np.testing.assert_allclose(weights, [13 / (7 * count) if count else 1.0 for count in counts])
    assert np.average(weights, weights=counts) == pytest.approx(1.0)
    assert "no scored residue of the training chains is in state I of the eight: the other states" in caplog.text


def test_a_metric_of_labels_that_are_not_there_is_refused_before_training(tmp_path):
    config = replace(_files(tmp_path, ["a\tMKV\tHHC\t111"]), {"training.best_metric": "validation/q8"})
    study = open_study(config)
    study.check()
    prepared = study.prepare()
    with pytest.raises(ValueError, match=r"validation/q8 is not measured on chains with labels for ss3.*validation/q3"):
        study.check_prepared(prepared)


def test_sources_that_hold_no_chains_and_unknown_metrics_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.source=tfds has no chains"):
        open_study(_config(tmp_path, data__source="tfds")).check()
    with pytest.raises(ValueError, match=r"validation/q4.*Did you mean 'validation/q"):
        open_study(_config(tmp_path, training__best_metric="validation/q4")).check()


def test_the_plan_needs_no_data(tmp_path, capsys):
    config = experiments.find("protein").config("netsurfp2")
    small = {"model.d_model": 32, "model.num_encoder_layers": 2, "model.local_layers": 1, "data.batch_tokens": 1024}
    config = replace(config, small | {"data.path": str(tmp_path / "none")})
    training.plan(config, Workdir(tmp_path / "run"))
    assert "parameters" in capsys.readouterr().out


def test_long_chains_are_cut_and_every_residue_is_scored_once():
    from jaxformer.data.proteins.records import by_chain, records_of

    letters = "ACDEFGHIKL" * 10
    long = Chain("long", letters, "HEC" * 33 + "H", scored=np.arange(100) > 4)
    short = Chain("short", letters[:30], "C" * 30, scored=np.ones(30, bool))
    records, pieces = records_of([long, short, short], ["ss3"], 40)
    assert records.lengths.max() == 40
    assert records.labels["ss3"].weights.sum() == 95 + 60
    chains = list(by_chain(pieces, records.inputs))
    assert [chain.name for chain, _ in chains] == ["long", "short", "short"]
    assert [len(ids) for _, ids in chains] == [100, 30, 30]
    np.testing.assert_array_equal(chains[0][1], chains[0][1][:10].tolist() * 10)
