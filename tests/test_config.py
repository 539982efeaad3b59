"""The configuration: every check has a message that helps, and every field is read somewhere."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import jaxformer
from jaxformer.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    from_dict,
    nearest,
    replace,
    to_dict,
)
from jaxformer.config_reference import fields

PACKAGE = Path(jaxformer.__file__).parent

REFUSED = [
    ({"precision": "fp61"}, "precision='fp61' is not known: choose one of bf16, fp16, fp32"),
    ({"series.window": 0}, "series.window must be greater than 0, got 0"),
    ({"series.loss": "cubic"}, "series.loss='cubic' is not known: choose one of absolute, huber, squared"),
    ({"series.outliers": 0.5}, "series.outliers must be at least 0 and less than 0.5, got 0.5"),
    ({"series.rise": -1.0}, "series.rise=-1.0 must be greater than series.fall=-0.5"),
    ({"model.d_model": 0}, "model.d_model must be greater than 0, got 0"),
    ({"model.d_ff": -1}, "model.d_ff must be greater than 0"),
    ({"model.num_heads": 0}, "model.num_heads must be greater than 0"),
    ({"model.num_heads": 7}, "model.num_heads=7 does not divide model.d_model=512"),
    ({"model.num_kv_heads": -1}, "model.num_kv_heads must be 0 or greater"),
    ({"model.num_kv_heads": 3}, "model.num_kv_heads=3 does not divide model.num_heads=8"),
    ({"model.num_encoder_layers": 0}, "model.num_encoder_layers must be greater than 0"),
    ({"model.num_decoder_layers": 0}, "model.num_decoder_layers must be greater than 0"),
    ({"model.activation": "gleu"}, "Did you mean 'gelu'"),
    ({"model.norm": "layer"}, "model.norm='layer' is not known"),
    ({"model.norm_position": "sandwich"}, "model.norm_position='sandwich' is not known"),
    ({"model.neighbourhood": -1}, "model.neighbourhood must be 0 or greater"),
    ({"model.neighbourhood": 1}, "model.neighbourhood=1 is for encoders with heads, and task.kind=translation: set"),
    ({"task.token_dropout": 0.1}, "task.token_dropout=0.1 is for encoders with heads, and task.kind=translation"),
    ({"task.vary_token_dropout": True}, "task.vary_token_dropout=true is for encoders with heads, and task.kind=tran"),
    ({"task.members": 2}, "task.members=2 is for encoders with heads, and task.kind=translation"),
    ({"data.spelling": 9}, "data.spelling=9 is for task.kind=text_classification with data.tokenizer=word, got transl"),
    (
        {
            "data": {"spelling": 9, "tokenizer": "word"}, "model.neighbourhood": 2,
            "task.kind": "text_classification", "training.best_metric": "validation/loss",
        },
        "data.spelling=9 and model.neighbourhood=2 do not go together",
    ),
    (
        {"data.vocabulary": "runs/a", "task.kind": "protein", "training.best_metric": "validation/loss"},
        "data.vocabulary=runs/a is for translation and text_classification, and task.kind=protein reads no text: set",
    ),
    ({"data.spelling": -1}, "data.spelling must be 0 or greater"),
    ({"task.linear_members": 1}, "task.linear_members=1 is for task.kind=text_classification, got translation: set"),
    (
        {"task": {"linear_members": 2, "kind": "text_classification"}, "training.best_metric": "validation/loss"},
        "task.linear_members=2 would all be the same, as nothing but hidden tokens makes them differ: set --config.ta",
    ),
    ({"task.linear_members": -1}, "task.linear_members must be 0 or greater, got -1"),
    ({"task.members": 0}, "task.members must be greater than 0, got 0"),
    ({"task.class_weights": "balanced"}, "task.class_weights=balanced is for encoders with heads"),
    ({"task.part_weights": "learned"}, "set --config.task.part_weights=equal"),
    ({"model.local_layers": 1}, "model.local_layers=1 is for encoders with heads"),
    ({"task.pooling": "cls"}, "task.pooling=cls is for text_classification and price_movement, and task.kind=transl"),
    ({"model.final_norm": False}, "model.final_norm=false is for encoders with heads, and task.kind=translation"),
    ({"data.tokenizer": "word", "data.subword_sampling": 0.1}, "data.subword_sampling=0.1 samples segmentations, of "),
    ({"model.local_layers": 6}, "model.local_layers=6 leaves none of model.num_encoder_layers=6"),
    ({"model.local_window": 0}, "model.local_window must be greater than 0"),
    ({"model.local_window": 4}, "model.local_window=4 is for encoders with heads, and task.kind=translation: set"),
    ({"model.position": "rotery"}, "Did you mean 'rotary'"),
    ({"model.position": "rotary", "model.d_model": 24}, "model.position=rotary needs an even head size"),
    ({"model.dropout": 1.0}, "model.dropout must be at least 0 and less than 1, got 1.0"),
    ({"model.attention_dropout": -0.1}, "model.attention_dropout must be at least 0"),
    ({"model.activation_dropout": 2.0}, "model.activation_dropout must be at least 0"),
    ({"model.max_length": 0}, "model.max_length must be greater than 0"),
    ({"model.max_length": 100}, "data.max_length=128 is more than model.max_length=100"),
    ({"data.joint_vocabulary": False}, "model.share_embeddings=true needs one vocabulary"),
    ({"data.source": "file"}, "Did you mean 'files'"),
    (
        {"data": {"source": "bundled", "path": "/nonexistent"}},
        "data.path=/nonexistent is not read with data.source=bundled, which generates its data: set "
        "--config.data.source=files (or tfds) too, or leave --config.data.path empty",
    ),
    ({"data": {"source": "bundled", "test": "news"}}, "data.test=news is not read with data.source=bundled"),
    ({"data": {"source": "bundled", "name": "imdb_reviews"}}, "set --config.data.source=tfds too"),
    ({"data.tokenizer": "wordpiece"}, "data.tokenizer='wordpiece' is not known"),
    ({"data.normalization": "nfd"}, "data.normalization='nfd' is not known"),
    ({"data.batching": "packed"}, "Did you mean 'pack'"),
    ({"data.vocabulary_size": 0}, "data.vocabulary_size must be greater than 0"),
    ({"data.num_examples": -1}, "data.num_examples must be 0 or greater"),
    ({"data.max_length_ratio": -1.0}, "data.max_length_ratio must be 0 or greater"),
    ({"data.subword_sampling": 1.0}, "data.subword_sampling must be at least 0 and less than 1"),
    ({"data.batch_tokens": 100}, "data.batch_tokens=100 does not fit the longest row (128 tokens): raise"),
    ({"data.batch_rows": -1}, "data.batch_rows must be 0 or greater"),
    ({"data.batch_rows": 8, "data.batching": "pack"}, "data.batch_rows=8 is for data.batching=bucket with a given"),
    ({"data.batch_rows": 8, "data.batch_tokens": 0}, "data.batch_rows=8 is for data.batching=bucket with a given"),
    ({"data.batching": "pack", "data.pack_length": 64}, "data.pack_length=64 is shorter than data.max_length=128"),
    ({"data.num_shapes": 0}, "data.num_shapes must be greater than 0"),
    ({"data.num_threads": 0}, "data.num_threads must be greater than 0"),
    ({"data.prefetch": 0}, "data.prefetch must be greater than 0"),
    ({"optimizer.name": "adm"}, "Did you mean 'adam'"),
    ({"optimizer.schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"optimizer.learning_rate": 0.0}, "optimizer.learning_rate must be greater than 0"),
    ({"optimizer.eps": 0.0}, "optimizer.eps must be greater than 0"),
    ({"optimizer.warmup_steps": -1}, "optimizer.warmup_steps must be 0 or greater"),
    ({"optimizer.b1": 1.0}, "optimizer.b1 must be at least 0 and less than 1"),
    ({"optimizer.weight_decay": -1.0}, "optimizer.weight_decay must be 0 or greater"),
    ({"optimizer.clip_norm": -1.0}, "optimizer.clip_norm must be 0 or greater"),
    ({"training.num_steps": 0}, "training.num_steps must be greater than 0"),
    ({"training.log_every": 0}, "training.log_every must be greater than 0"),
    ({"training.keep_checkpoints": 0}, "training.keep_checkpoints must be greater than 0"),
    ({"training.eval_every": -1}, "training.eval_every must be 0 or greater"),
    ({"training.label_smoothing": 1.0}, "training.label_smoothing must be at least 0 and less than 1"),
    ({"training.r_drop": -1.0}, "training.r_drop must be 0 or greater"),
    ({"training.r_drop": 5.0, "model.dropout": 0.0}, "two passes with different dropout, of which there is none: set"),
    ({"training.r_drop_start": 5}, "training.r_drop_start=5 has no R-Drop after it"),
    ({"training.r_drop": 1.0, "training.r_drop_start": 10_000}, "training.num_steps=10000; raise these"),
    ({"decoding.length_penalty": 1000.0}, "decoding.length_penalty=1000.0 is too large: long translations, of up to d"),
    ({"training.best_metric": "bleu"}, "training.best_metric='bleu' is not known"),
    ({"training.average_checkpoints": 5, "training.ema_decay": 0.9}, "two ways to average parameters"),
    ({"training.early_stopping": 2, "training.eval_every": 0}, "early_stopping=2 needs evaluations to count: set"),
    ({"memory.accumulate": 0}, "memory.accumulate must be greater than 0"),
    ({"mesh.data": 0}, "mesh.data must be greater than 0"),
    ({"data.batch_tokens": -1}, "data.batch_tokens must be 0 or greater"),
    ({"plan.per_host": -1}, "plan.per_host must be 0 or greater"),
    ({"plan.memory": -1.0}, "plan.memory must be 0 or greater"),
    ({"plan.network": 0.0}, "plan.network must be greater than 0"),
    ({"plan.reserve": 1.0}, "plan.reserve must be at least 0 and less than 1"),
    ({"decoding.method": "bean"}, "Did you mean 'beam'"),
    ({"decoding.beam_size": 0}, "decoding.beam_size must be greater than 0"),
    ({"decoding.n_best": 6}, "decoding.n_best=6 is more than decoding.beam_size=5"),
    ({"decoding": {"method": "greedy", "n_best": 2}}, "decoding.n_best=2 is more than the one hypothesis of decoding."),
    ({"decoding.temperature": 0.0}, "decoding.temperature must be greater than 0"),
    ({"decoding.length_penalty": -1.0}, "decoding.length_penalty must be 0 or greater"),
    ({"decoding.top_p": 0.0}, "decoding.top_p must be greater than 0 and at most 1"),
    ({"monitoring.samples": -1}, "monitoring.samples must be 0 or greater"),
    ({"training.num_step": 5}, "unknown config field 'num_step': choose one of"),
    ({"trainig.num_steps": 5}, "unknown config field 'trainig': choose one of"),
    ({"training": 5}, "config section 'training' takes fields, or a TrainingConfig, got 5"),
    ({"training": ModelConfig()}, "config section 'training' takes fields, or a TrainingConfig, got ModelConfig("),
    ({"model": ModelConfig(), "model.d_ff": 8}, "config section 'model' is given whole and by its fields"),
    ({"model.d_ff": 8, "model": ModelConfig()}, "config section 'model' is given whole and by its fields"),
    ({"training.num_steps": np.float64(3)}, "config field 'num_steps' is of type int, got 3.0"),
    ({"training.num_steps": np.bool_(True)}, "config field 'num_steps' is of type int, got True"),
    ({"training.num_steps": 2.5}, "config field 'num_steps' is of type int, got 2.5"),
    ({"training.num_steps": True}, "config field 'num_steps' is of type int, got True"),
    ({"data.reverse": "yes"}, "config field 'reverse' is of type bool, got 'yes'"),
    ({"model.dropout": True}, "config field 'dropout' is of type float, got True"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_bad_value_is_refused_with_its_name_and_what_to_do(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(Config(), changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(reverse="false"), "data.reverse is of type bool, got 'false'"),
        (lambda: DataConfig(path=Path("DIR")), "data.path is of type str, got PosixPath('DIR')"),
        (lambda: TrainingConfig(num_steps=1.5), "training.num_steps is of type int, got 1.5"),
        (lambda: ModelConfig(num_encoder_layers=True), "model.num_encoder_layers is of type int, got True"),
        (lambda: ModelConfig(dropout="0.1"), "model.dropout is of type float, got '0.1'"),
        (lambda: TrainingConfig(num_steps=np.float64(2)), "training.num_steps is of type int, got 2.0"),
        (lambda: DataConfig(reverse=np.int64(1)), "data.reverse is of type bool, got 1"),
        (lambda: Config(precision=16), "precision is of type str, got 16"),
        (lambda: Config(model={"d_model": 64}), "model is of type ModelConfig, got {'d_model': 64}"),
    ],
)
def test_a_section_made_by_hand_is_asked_for_types_too(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_every_section_asks_for_types():
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.default):
            first = dataclasses.fields(field.default)[0].name
            with pytest.raises(ValueError, match=rf"^{field.name}\.{first} is of type"):
                type(field.default)(**{first: None})


def test_a_whole_number_is_a_number():
    assert OptimizerConfig(learning_rate=1) == OptimizerConfig(learning_rate=1.0)


def test_scalars_of_numpy_become_plain_values():
    values = {"learning_rate": np.float64(0.5), "warmup_steps": np.int64(7), "clip_norm": np.float32(0.25)}
    by_hand = Config(optimizer=OptimizerConfig(**values), data=DataConfig(reverse=np.bool_(True), path=np.str_("DIR")))
    changed = replace(Config(), {"optimizer": values, "data.reverse": np.bool_(True), "data.path": np.str_("DIR")})
    assert by_hand == changed
    for config in (by_hand, changed):
        kept = [getattr(config.optimizer, name) for name in values] + [config.data.reverse, config.data.path]
        assert list(map(type, kept)) == [float, int, float, bool, str]
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert type(replace(Config(), {"optimizer.learning_rate": np.int64(1)}).optimizer.learning_rate) is float


def test_a_section_may_be_given_whole():
    model = ModelConfig(d_model=64)
    config = replace(replace(Config(), {"model.d_ff": 8}), {"model": model, "training.num_steps": 7})
    assert config == Config(model=model, training=TrainingConfig(num_steps=7))


def test_the_defaults_are_valid_and_survive_json():
    config = replace(Config(), {"model": {"dropout": 0.25}, "optimizer.learning_rate": 1 / 3, "data.reverse": True})
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_generated_data_leaves_nothing_of_where_data_lay():
    files = replace(Config(), {"data": {"path": "DIR", "name": "set", "train": "a", "validation": "b", "test": "c"}})
    assert replace(files, {"data.source": "bundled"}) == replace(Config(), {"data.source": "bundled"})
    with pytest.raises(ValueError, match=r"^data\.path=OTHER is not read"):
        replace(files, {"data.source": "bundled", "data.path": "OTHER"})


def test_a_stored_configuration_may_have_places_that_its_generated_data_never_read():
    stored = to_dict(Config()) | {"data": to_dict(Config().data) | {"source": "bundled", "path": "DIR", "test": "a"}}
    assert from_dict(stored) == replace(Config(), {"data.source": "bundled"})


def test_nested_and_dotted_changes_mean_the_same():
    nested = replace(Config(), {"training": {"num_steps": 7}, "model": {"d_model": 64}})
    dotted = replace(Config(), {"training.num_steps": 7, "model.d_model": 64})
    assert nested == dotted != Config()
    assert nested.training.num_steps == 7


def test_a_whole_number_is_taken_for_a_float_field():
    value = replace(Config(), {"optimizer.learning_rate": 1}).optimizer.learning_rate
    assert isinstance(value, float)
    assert value == 1.0


def test_configurations_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.d_model = 3  # type: ignore[misc]


def test_fields_that_a_stored_configuration_lacks_keep_their_defaults():
    assert from_dict({"training": {"num_steps": 3}}).optimizer == Config().optimizer


def test_nearest_lists_the_choices_and_hints_only_at_what_is_near():
    assert nearest("trian", ["train", "plan"]) == "choose one of plan, train. Did you mean 'train'?"
    assert nearest("xyz", ["train", "plan"]) == "choose one of plan, train."


def _section_classes() -> dict[str, str]:
    sections = {type(getattr(Config(), field.name)).__name__: field.name for field in dataclasses.fields(Config)}
    return {cls: section for cls, section in sections.items() if cls.endswith("Config")} | {"Config": ""}


def _reads(tree: ast.AST) -> set[str]:
    """Dotted config fields that a module reads.

    `anything.SECTION.field` counts for its section, and so does `name.field` (or `self._name.field`) where `name`, in
    that module, is annotated with the section's class.
    """
    classes = _section_classes()
    sections_of: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None)
        if annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)  # type: ignore[attr-defined]
            found = {section for cls, section in classes.items() if re.search(rf"\b{cls}\b", ast.unparse(annotation))}
            sections_of.setdefault(name.removeprefix("self."), set()).update(found)
    reads = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = ast.unparse(node.value).rpartition(".")[2].lstrip("_")
            owners = sections_of.get(owner, set()) | ({owner} if owner in classes.values() else set())
            reads |= {f"{section}.{node.attr}".lstrip(".") for section in owners}
    return reads


def test_every_field_is_read_somewhere():
    reads: set[str] = set()
    for path in [*PACKAGE.rglob("*.py"), PACKAGE.parent / "run.py"]:
        if path.parent.name != "config" and path.name != "config_reference.py":
            reads |= _reads(ast.parse(path.read_text(encoding="utf-8")))
    unread = [name for name in fields() if name not in reads]
    assert not unread, f"declared in jaxformer/config and read nowhere: {', '.join(unread)}"


def test_the_scan_for_reads_sees_a_section_by_its_name_and_by_its_annotation():
    tree = ast.parse("def f(data: DataConfig, config: Config):\n    data.seed = 3\n    return config.decoding.seed")
    assert _reads(tree) & {"data.seed", "decoding.seed", "training.seed"} == {"decoding.seed"}
    tree = ast.parse("def f(settings: DataConfig):\n    return settings.seed")
    assert _reads(tree) & {"data.seed", "decoding.seed", "training.seed"} == {"data.seed"}


def test_a_trace_after_the_last_step_is_refused():
    with pytest.raises(ValueError, match=r"profile.start_step=20 is after the last step, training.num_steps=5"):
        replace(Config(), {"training.num_steps": 5, "profile.num_steps": 1})


@pytest.mark.parametrize("field", [name for name, field in fields().items() if field.type == "float"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_no_field_takes_what_is_not_finite(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        replace(Config(), {field: value})


@pytest.mark.parametrize("field", ["training.seed", "data.seed", "decoding.seed"])
def test_a_seed_that_no_generator_takes_is_refused(field):
    with pytest.raises(ValueError, match=rf"{field} must be at least 0 and less than 2147483648, got {2**31}"):
        replace(Config(), {field: 2**31})
    assert replace(Config(), {field: 2**31 - 1})


def test_as_many_samples_as_wanted_may_be_drawn():
    assert replace(Config(), {"decoding": {"method": "sample", "n_best": 9}}).decoding.beam_size == 5


def test_averaging_needs_checkpoints():
    with pytest.raises(ValueError, match=r"average_checkpoints=5 needs checkpoints to average: set .*checkpoint_every"):
        replace(Config(), {"training.average_checkpoints": 5, "training.checkpoint_every": 0})
