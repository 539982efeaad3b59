"""Frozen, typed, validated settings: one dataclass for each concern, gathered in `Config`.

Every component receives only its own section. Values are checked here, once, so that nothing after this package has to
check them again; an error says what was wrong, what was given, and what to do. Not for flags (`run.py`) and not for
tuned numbers (`experiments/`): the defaults are the plain ones of the literature.
"""

from jaxformer.config.checks import nearest
from jaxformer.config.data import DataConfig, SeriesConfig
from jaxformer.config.devices import MemoryConfig, MeshConfig, PlanConfig
from jaxformer.config.network import KINDS, POOLED, ModelConfig, TaskConfig
from jaxformer.config.running import DecodingConfig, MonitoringConfig, ProfileConfig
from jaxformer.config.training import OptimizerConfig, TrainingConfig
from jaxformer.config.whole import Config, from_dict, replace, to_dict

__all__ = [
    "KINDS",
    "POOLED",
    "Config",
    "DataConfig",
    "DecodingConfig",
    "MemoryConfig",
    "MeshConfig",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizerConfig",
    "PlanConfig",
    "ProfileConfig",
    "SeriesConfig",
    "TaskConfig",
    "TrainingConfig",
    "from_dict",
    "nearest",
    "replace",
    "to_dict",
]
