"""Commands to action sequences (SCAN), the simple split, scored by exact match.

Source: Lake and Baroni 2018, "Generalization without systematicity"; 16,728 training commands in the simple split, of
which some are held back for validation.

    python run.py --experiment=scan --config.data.path=DIR             # DIR/tasks_train_simple.txt.gz
"""

from __future__ import annotations

from jaxformer.config import Config, replace

_SIMPLE = replace(
    Config(),
    {
        "model": {
            "d_model": 128,
            "d_ff": 256,
            "num_heads": 4,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "dropout": 0.1,
            "share_embeddings": False,
            "max_length": 256,
        },
        "data": {
            "source": "files",
            "path": "../shared/data/scan",
            "train": "tasks_train_simple",
            "source_language": "in",
            "target_language": "out",
            "joint_vocabulary": False,
            "byte_fallback": False,
            "vocabulary_size": 40,
            "max_length": 128,
            "batch_tokens": 4096,
        },
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 400},
        "training": {
            "num_steps": 4000,
            "label_smoothing": 0.0,
            "eval_every": 1000,
            "checkpoint_every": 1000,
            "best_metric": "validation/exact_match",
        },
        "decoding": {"method": "greedy"},
    },
)

VARIANTS: dict[str, Config] = {"simple": _SIMPLE}

DESCRIPTIONS = {"simple": "SCAN simple split, 2+2 layers of width 128, exact match"}
