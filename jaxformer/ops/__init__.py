"""Array functions without parameters: they know no module, no config and no flag."""

from jaxformer.ops.attention import Mask, attention, decode_attention
from jaxformer.ops.cross_entropy import cross_entropy, weigh_classes
from jaxformer.ops.dropout import dropout, fold_seed
from jaxformer.ops.linear_cross_entropy import linear_cross_entropy, r_drop_cross_entropy
from jaxformer.ops.losses import (
    absolute_error,
    binary_cross_entropy,
    huber_loss,
    multi_label_cross_entropy,
    quantile_loss,
    squared_error,
)
from jaxformer.ops.multi_task import uncertainty_total, weighted_total
from jaxformer.ops.norms import layer_norm, rms_norm
from jaxformer.ops.positions import Rotation, apply_rotary, rotate, rotation, sinusoidal_positions
from jaxformer.ops.relu import relu, relu_dropout
from jaxformer.ops.shift import shift_right

__all__ = [
    "Mask",
    "Rotation",
    "absolute_error",
    "apply_rotary",
    "attention",
    "binary_cross_entropy",
    "cross_entropy",
    "decode_attention",
    "dropout",
    "fold_seed",
    "huber_loss",
    "layer_norm",
    "linear_cross_entropy",
    "multi_label_cross_entropy",
    "quantile_loss",
    "r_drop_cross_entropy",
    "relu",
    "relu_dropout",
    "rms_norm",
    "rotate",
    "rotation",
    "shift_right",
    "sinusoidal_positions",
    "squared_error",
    "uncertainty_total",
    "weigh_classes",
    "weighted_total",
]
