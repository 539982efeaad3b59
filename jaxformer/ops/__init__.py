"""Array functions without parameters: they know no module, no config and no flag."""

from jaxformer.ops.attention import Mask, attention, decode_attention
from jaxformer.ops.cross_entropy import cross_entropy
from jaxformer.ops.dropout import dropout, fold_seed
from jaxformer.ops.linear_cross_entropy import linear_cross_entropy, r_drop_cross_entropy
from jaxformer.ops.norms import layer_norm, rms_norm
from jaxformer.ops.positions import apply_rotary, sinusoidal_positions
from jaxformer.ops.shift import shift_right

__all__ = [
    "Mask",
    "apply_rotary",
    "attention",
    "cross_entropy",
    "decode_attention",
    "dropout",
    "fold_seed",
    "layer_norm",
    "linear_cross_entropy",
    "r_drop_cross_entropy",
    "rms_norm",
    "shift_right",
    "sinusoidal_positions",
]
