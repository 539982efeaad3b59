"""All sections together, what they ask of each other, and the ways from and to plain values.

Not for what a section asks of its own fields.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from jaxformer.config.checks import as_plain, as_text, check_choice, check_types, nearest
from jaxformer.config.data import OF_FOUND_DATA, DataConfig, SeriesConfig
from jaxformer.config.devices import MemoryConfig, MeshConfig, PlanConfig
from jaxformer.config.network import OF_TEXT, POOLED, ModelConfig, TaskConfig
from jaxformer.config.running import DecodingConfig, MonitoringConfig, ProfileConfig
from jaxformer.config.training import OptimizerConfig, TrainingConfig

_LARGEST = 3.4e38
"""What float32 holds, in which scores are divided."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a run; written to `config.json` in its workdir.

    Attributes:
      experiment: name of the experiment and its variant, `wmt:base`.
      precision: `fp32`, `bf16` or `fp16`: parameters and reductions stay in float32, activations are computed in this;
        `fp16` with a loss scale that finds its size by itself.
    """

    experiment: str = ""
    precision: str = "fp32"
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    series: SeriesConfig = SeriesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    memory: MemoryConfig = MemoryConfig()
    mesh: MeshConfig = MeshConfig()
    plan: PlanConfig = PlanConfig()
    decoding: DecodingConfig = DecodingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    profile: ProfileConfig = ProfileConfig()

    @property
    def left_open(self) -> bool:
        """Whether the planner has to choose something before training."""
        return self.mesh.auto or not self.data.batch_tokens

    @property
    def data_with_vocabulary(self) -> DataConfig:
        """`data`, whose `vocabulary` is that of the run whose parameters this one begins with, if there is one."""
        return replace(self.data, {"vocabulary": self.data.vocabulary or self.training.start_from})

    def __post_init__(self) -> None:
        check_types("", self)
        check_choice("precision", self.precision, "fp32", "bf16", "fp16")
        self._check_best_metric()
        if self.training.r_drop and not max(
            self.model.dropout, self.model.attention_dropout, self.model.activation_dropout
        ):
            raise ValueError(
                f"training.r_drop={self.training.r_drop} compares two passes with different dropout, "
                "of which there is none: set --config.model.dropout, or --config.training.r_drop=0"
            )
        self._check_what_the_task_has()
        self._check_spelling()
        self._check_vocabulary()
        self._check_length_penalty()
        if self.profile.num_steps and self.profile.start_step > self.training.num_steps:
            raise ValueError(
                f"profile.start_step={self.profile.start_step} is after the last step, training.num_steps="
                f"{self.training.num_steps}: nothing would be traced; lower --config.profile.start_step"
            )
        if self.model.share_embeddings and not self.data.joint_vocabulary:
            raise ValueError(
                "model.share_embeddings=true needs one vocabulary for both languages: "
                "set --config.data.joint_vocabulary=true or --config.model.share_embeddings=false"
            )
        if self.data.max_length > self.model.max_length:
            raise ValueError(
                f"data.max_length={self.data.max_length} is more than model.max_length={self.model.max_length}: "
                "raise --config.model.max_length or lower --config.data.max_length"
            )

    def _check_best_metric(self) -> None:
        """Metrics of translation are known here; those of other tasks are checked where they are measured."""
        metric = self.training.best_metric
        if self.task.kind == "translation":
            names = ("bleu", "chrf", "exact_match", "loss", "nll", "accuracy")
            check_choice("training.best_metric", metric, *(f"validation/{name}" for name in names))
        elif not metric.startswith("validation/"):
            raise ValueError(
                f"training.best_metric={metric!r} is not known: it is a metric of validation, such as validation/loss"
            )

    def _check_what_the_task_has(self) -> None:
        """Settings of parts that only some tasks have stay as they are by default for the others."""
        of_encoders: list[tuple[str, Any, tuple[str, ...]]] = [
            ("model", self.model, ("neighbourhood", "local_layers", "local_window", "scale_embedding", "final_norm")),
            ("task", self.task, ("part_weights", "class_weights", "token_dropout", "vary_token_dropout", "members")),
        ]
        for section, fields, names in of_encoders:
            for name in names if self.task.kind == "translation" else ():
                value, default = getattr(fields, name), getattr(type(fields), name)
                if value != default:
                    raise ValueError(
                        f"{section}.{name}={as_text(value)} is for encoders with heads, and task.kind=translation: set "
                        f"--config.{section}.{name}={as_text(default)}"
                    )
        if self.task.kind not in POOLED and self.task.pooling != TaskConfig.pooling:
            raise ValueError(
                f"task.pooling={self.task.pooling} is for {' and '.join(POOLED)}, and task.kind={self.task.kind} pools "
                f"nothing: set --config.task.pooling={TaskConfig.pooling}"
            )
        if self.decoding.ensemble and self.task.kind != "translation":
            raise ValueError(
                f"decoding.ensemble={self.decoding.ensemble} is for task.kind=translation, got {self.task.kind}: train "
                "several networks side by side with --config.task.members"
            )
        if self.task.linear_members and self.task.kind != "text_classification":
            raise ValueError(
                f"task.linear_members={self.task.linear_members} is for task.kind=text_classification, got "
                f"{self.task.kind}: set --config.task.linear_members=0"
            )

    def _check_spelling(self) -> None:
        if self.data.spelling and (self.task.kind != "text_classification" or self.data.tokenizer != "word"):
            raise ValueError(
                f"data.spelling={self.data.spelling} is for task.kind=text_classification with data.tokenizer=word, "
                f"got {self.task.kind} with {self.data.tokenizer}: set --config.data.spelling=0"
            )
        if self.data.spelling and self.model.neighbourhood:
            raise ValueError(
                f"data.spelling={self.data.spelling} and model.neighbourhood={self.model.neighbourhood} do not go "
                "together: set one of them to 0"
            )

    def _check_vocabulary(self) -> None:
        if self.data.vocabulary and self.task.kind not in OF_TEXT:
            raise ValueError(
                f"data.vocabulary={self.data.vocabulary} is for {' and '.join(OF_TEXT)}, and task.kind="
                f"{self.task.kind} reads no text: set --config.data.vocabulary="
            )

    def _check_length_penalty(self) -> None:
        """Before training: the search, which is refused this likewise, comes after it."""
        penalty, longest = self.decoding.length_penalty, self.data.max_length
        if penalty * math.log((5 + longest) / 6) > math.log(_LARGEST):
            raise ValueError(
                f"decoding.length_penalty={penalty} is too large: long translations, of up to "
                f"data.max_length={longest} tokens, would all score 0; choose one near 1"
            )


_D = TypeVar("_D")


def replace(config: _D, changes: Mapping[str, Any]) -> _D:
    """`config` with `changes`, a nested or dotted mapping of field names to values; unknown names are refused.

    A section may be given whole, as `{"model": ModelConfig(d_model=256)}`: its other fields then have their defaults.
    A change to `data.source=bundled` empties what said where other data lies, as far as it is not given with it.

    Raises:
      ValueError: for a field that does not exist (with the nearest name), a value of the wrong type, or a section that
        is given both whole and by its fields.
    """
    nested: dict[str, Any] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if head in nested and (dataclasses.is_dataclass(nested[head]) or dataclasses.is_dataclass(value)):
            raise ValueError(f"config section {head!r} is given whole and by its fields: give one of them")
        if rest:
            nested.setdefault(head, {})[rest] = value
        elif isinstance(value, Mapping) and isinstance(nested.get(head), dict):
            nested[head].update(value)
        else:
            nested[head] = value
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in nested.items():
        if name not in fields:
            raise ValueError(f"unknown config field {name!r}: {nearest(name, fields)}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, (Mapping, type(current))):
                raise ValueError(f"config section {name!r} takes fields, or a {type(current).__name__}, got {value!r}")
            values[name] = replace(current, value) if isinstance(value, Mapping) else value
        else:
            values[name] = _typed(name, value, current)
    if isinstance(config, DataConfig) and values.get("source") == "bundled":
        values = dict.fromkeys(OF_FOUND_DATA, "") | values
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _typed(name: str, value: Any, current: Any) -> Any:
    value = as_plain(value)
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(current):
        raise ValueError(f"config field {name!r} is of type {type(current).__name__}, got {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The nested plain dictionary of `config`, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The `Config` that `to_dict` wrote; fields it does not mention keep their defaults.

    Of bundled data, where other data lies is left out: before 2026-11-28 that could be set, and was not read.
    """
    data = values.get("data")
    if isinstance(data, Mapping) and data.get("source") == "bundled":
        data = {name: value for name, value in data.items() if name not in OF_FOUND_DATA}
        values = {**values, "data": data}
    return replace(Config(), values)
