"""A new run begins with what another one has learnt, or says why it cannot."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxformer
from jaxformer import training
from jaxformer.config import Config, MeshConfig, replace, to_dict
from jaxformer.data.tokenizer import train_tokenizer
from jaxformer.parallel.mesh import make_layout
from jaxformer.training import hooks
from jaxformer.training.beginning import begin_with, check_beginning
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.interruption import Interrupted
from jaxformer.training.leaves import leaf_names
from jaxformer.training.optimizer import make_optimizer
from jaxformer.training.state import create_state
from jaxformer.training.studies.translation import TranslationFacts
from jaxformer.training.study import open_study
from jaxformer.training.trained import open_predictor
from jaxformer.training.workdir import Workdir
from jaxformer.types import Pair
from tests.devices import run_on_eight_devices
from tests.training import reversal

PAIRS = [("1 2 3", "3 2 1"), ("7 7 5 9", "9 5 7 7")]


@pytest.fixture(scope="module", autouse=True)
def no_compilation_cache():
    yield
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> tuple[Config, Workdir]:
    """A run of 40 steps."""
    folder = tmp_path_factory.mktemp("learnt")
    config = reversal.config(reversal.write_corpus(folder / "data", train=300, held_back=0), training__num_steps=40)
    training.train(config, folder / "run")
    return config, Workdir(folder / "run")


def _other(tmp_path, start: Workdir, **changes: Any) -> Config:
    """A run on other text, of which no vocabulary would be the same."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.en").write_text("3 1\n2 1 1\n" * 40 + "9 8\n")
    (folder / "train.de").write_text("1 3\n1 1 2\n" * 40 + "8 9\n")
    small: dict[str, Any] = {
        "training__start_from": str(start.path), "training__num_steps": 6, "optimizer__learning_rate": 1e-9,
        "data__deduplicate": False,
    }  # fmt: skip
    return reversal.config(folder, **{**small, **changes})


def _scores(workdir) -> list[float]:
    return [score.log_prob for score in jaxformer.load_translator(workdir).score(PAIRS)]


def test_it_begins_with_what_was_learnt_and_its_vocabulary(learnt, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, start = learnt
    config = _other(tmp_path, start)
    training.train(config, tmp_path / "run")
    np.testing.assert_allclose(_scores(tmp_path / "run"), _scores(start), rtol=1e-4)
    assert (tmp_path / "run" / "tokenizer.model").read_bytes() == start.tokenizer.read_bytes()
    assert f"the parameters are those of {start.path} at first: the moving average of step 40" in caplog.text


def test_it_goes_on_when_the_other_run_is_gone(learnt, tmp_path, monkeypatch):
    start = Workdir(shutil.copytree(learnt[1].path, tmp_path / "start"))
    config = _other(tmp_path, start)

    def ask(line, step, metrics, progress):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(hooks.ProgressLine, "__call__", ask)
        with pytest.raises(Interrupted):
            training.train(config, tmp_path / "run")
    shutil.rmtree(start.path)
    assert training.train(config, tmp_path / "run")["step"] == 6
    np.testing.assert_allclose(_scores(tmp_path / "run"), _scores(learnt[1]), rtol=1e-4)


def test_the_state_shares_no_memory_and_the_optimizer_is_new(learnt, tmp_path):
    config = replace(learnt[0], {"training.start_from": str(learnt[1].path)})
    study = open_study(config)
    task = study.make_task(study.load_facts(learnt[1]))
    layout = make_layout(MeshConfig(data=1))
    state = create_state(
        lambda: task.new_params(5), make_optimizer(config.optimizer, 10), seed=1, ema=True, layout=layout
    )
    begun = begin_with(state, config, layout, study.load_facts(learnt[1]))
    assert int(begun.step) == 0
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((begun.params, begun.ema, begun.opt_state))]
    assert len(set(pointers)) == len(pointers), "all of it is donated"
    jax.tree.map(np.testing.assert_array_equal, begun.params, begun.ema)
    jax.tree.map(np.testing.assert_array_equal, begun.opt_state, state.opt_state)


def test_another_network_is_refused_with_the_flags_that_make_it_the_same(learnt, tmp_path, capsys):
    config = _other(tmp_path, learnt[1], model__d_ff=48, model__norm="rmsnorm", data__vocabulary_size=19)
    with pytest.raises(ValueError, match="another network") as refused:
        training.train(config, tmp_path / "run")
    assert "  model.norm: 'layernorm' -> 'rmsnorm'\n" in str(refused.value)
    there = learnt[0].model.d_ff
    assert str(refused.value).endswith(
        f"--config.model.d_ff={there} --config.model.norm=layernorm --config.data.vocabulary_size=20"
    )
    with pytest.raises(ValueError, match="another network"):
        training.plan(config, tmp_path / "run")
    capsys.readouterr()
    same = {"model.d_ff": there, "model.norm": "layernorm", "data.vocabulary_size": 20, "model.dropout": 0.5}
    training.plan(replace(config, same), tmp_path / "run")
    assert f"run          new, with the parameters of {learnt[1].path} at first\n" in capsys.readouterr().out


def _from(config: Config, folder: Path, **changes: Any) -> Config:
    return replace(config, {"training.start_from": str(folder), **changes})


def test_what_is_no_run_to_begin_with_is_refused(learnt, tmp_path):
    run = Workdir(tmp_path / "run")
    with pytest.raises(WorkdirError, match=r"training.start_from: workdir .*nowhere is not there: train one"):
        training.prepare(_from(learnt[0], tmp_path / "nowhere"))
    (tmp_path / "begun").mkdir()
    shutil.copy(learnt[1].config, tmp_path / "begun")
    with pytest.raises(WorkdirError, match="holds no trained run"):
        check_beginning(_from(learnt[0], tmp_path / "begun"), run)
    with pytest.raises(ValueError, match="is the run itself"):
        check_beginning(_from(learnt[0], learnt[1].path), learnt[1])
    kind = {"task": {"kind": "text_classification"}, "training": {"best_metric": "validation/loss"}}
    with pytest.raises(ValueError, match=r"a run of task.kind=translation, and this one of text_classification"):
        check_beginning(_from(replace(Config(), kind), learnt[1].path), run)


def test_another_vocabulary_of_the_same_size_is_refused(learnt, tmp_path):
    pairs = [Pair(f"{number} 2 3 4 5 6 7 8 9 0", "0 1 2 3 4 5 6 7 8") for number in range(9)]
    train_tokenizer(pairs, replace(learnt[0].data, {"vocabulary_size": 16})).save(tmp_path / "tokenizer.model")
    config = _from(learnt[0], learnt[1].path, **{"data.vocabulary": str(tmp_path)})
    with pytest.raises(ValueError, match=r"is not the vocabulary of .* leave data.vocabulary out"):
        check_beginning(config, Workdir(tmp_path / "run"))


def _texts(folder: Path, labels: str) -> Config:
    """A small network of texts, each of which names its class."""
    folder.mkdir()
    texts = [f"{label}\tthis is {label} of {number}\n" for number in range(40) for label in labels]
    (folder / "train.tsv").write_text("".join(texts))
    (folder / "dev.tsv").write_text(texts[0])
    return replace(Config(), {
        "task": {"kind": "text_classification", "pooling": "mean"},
        "model": {"d_model": 16, "d_ff": 32, "num_heads": 2, "num_encoder_layers": 1, "max_length": 16},
        "data": {"path": str(folder), "vocabulary_size": 300, "max_length": 16, "batch_tokens": 256, "num_shapes": 1,
                 "cache_dir": str(folder / "cache")},
        "optimizer": {"learning_rate": 1e-9},
        "training": {"num_steps": 2, "eval_every": 0, "best_metric": "validation/loss"},
        "monitoring": {"progress": False, "tensorboard": False},
    })  # fmt: skip


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> tuple[Config, Path]:
    """A run that tells *a* from *b*, by a network and a member without layers."""
    folder = tmp_path_factory.mktemp("classes")
    config = replace(_texts(folder / "data", "ab"), {"task.linear_members": 1})
    training.train(config, folder / "run")
    return config, folder / "run"


def _begun(config: Config, start: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a new run before and after it begins with `start`."""
    config = _from(config, start)
    study, layout = open_study(config), make_layout(MeshConfig(data=1))
    facts = study.prepare().facts
    task = study.make_task(facts, layout)
    optimizer = make_optimizer(config.optimizer, 2)
    state = create_state(lambda: task.new_params(7), optimizer, seed=1, ema=False, layout=layout)
    own = {name: np.asarray(leaf) for name, leaf in leaf_names(state.params).items()}
    return own, leaf_names(begin_with(state, config, layout, facts).params)


@pytest.mark.parametrize("labels", ["ab", "cd", "abc"])
def test_what_is_said_of_other_classes_begins_anew_and_the_rest_does_not(classes, tmp_path, caplog, labels):
    caplog.set_level(logging.INFO)
    config, start = classes
    own, begun = _begun(replace(_texts(tmp_path / "data", labels), {"task.linear_members": 1}), start)
    anew = ("members.0.heads.label", "members.1.encoder.weights", "members.1.heads.label") if labels != "ab" else ()
    assert (f"; random are {', '.join(anew)}\n" in caplog.text) == bool(anew)
    learnt = leaf_names(open_predictor(config, Workdir(start))[2].params)
    for name in begun:
        expected = own if anew and name.startswith(anew) else learnt
        np.testing.assert_array_equal(begun[name], expected[name], err_msg=name)


def test_fields_that_change_what_parameters_mean_are_refused(classes):
    config, start = classes
    other = {"task.pooling": "cls", "data.normalization": "nfkc"}
    with pytest.raises(ValueError, match=r"another network") as refused:
        check_beginning(_from(config, start, **other))
    assert str(refused.value).endswith("--config.task.pooling=mean --config.data.normalization=nfc")


def test_a_vocabulary_that_changed_before_the_first_checkpoint_is_noticed(learnt, tmp_path):
    config = _from(learnt[0], learnt[1].path)
    study = open_study(config)
    pairs = [Pair(f"{number} 2 3 4 5 6 7 8 9 0", "0 1 2 3 4 5 6 7 8") for number in range(9)]
    other = TranslationFacts(train_tokenizer(pairs, replace(learnt[0].data, {"vocabulary_size": 16})))
    layout = make_layout(MeshConfig(data=1))
    with pytest.raises(ValueError, match=r"what this run has is not the vocabulary of training.start_from="):
        begin_with(None, config, layout, other)
    assert study.load_facts(learnt[1]).digest != other.digest


def test_text_that_the_vocabulary_cannot_write_is_told(learnt, tmp_path, caplog):
    config = _other(tmp_path, learnt[1], training__num_steps=1)
    (tmp_path / "data" / "train.en").write_text("x y z\n" * 3 + "1 2\n" * 78)
    training.prepare(config)
    assert f"% of the training tokens are unknown to the vocabulary in {learnt[1].path}" in caplog.text


def test_it_begins_on_other_devices_too(learnt, tmp_path):
    config = _from(learnt[0], learnt[1].path, **{"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2})
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    params = leaf_names(open_predictor(learnt[0], learnt[1])[2]._params)
    np.savez(tmp_path / "learnt.npz", **{name: np.asarray(leaf) for name, leaf in params.items()})
    run_on_eight_devices(f"""
        import json
        from jaxformer.config import from_dict
        from jaxformer.parallel.mesh import make_layout
        from jaxformer.training.beginning import begin_with
        from jaxformer.training.leaves import leaf_names
        from jaxformer.training.optimizer import make_optimizer
        from jaxformer.training.state import create_state
        from jaxformer.training.study import open_study
        from jaxformer.training.workdir import Workdir

        config = from_dict(json.load(open({str(tmp_path / "config.json")!r})))
        study, layout = open_study(config), make_layout(config.mesh)
        facts = study.load_facts(Workdir(config.training.start_from))
        task = study.make_task(facts, layout)
        state = create_state(
            lambda: task.new_params(7), make_optimizer(config.optimizer, 2), seed=1, ema=True, layout=layout
        )
        begun = begin_with(state, config, layout, facts)
        learnt = np.load({str(tmp_path / "learnt.npz")!r})
        for before, after in ((state.params, begun.params), (state.ema, begun.ema)):
            before = leaf_names(before)
            for name, leaf in leaf_names(after).items():
                np.testing.assert_array_equal(leaf, learnt[name], err_msg=name)
                assert leaf.sharding == before[name].sharding, name
    """)
