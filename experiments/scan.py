r"""Commands to action sequences (SCAN), the simple split, scored by exact match.

Source: Lake and Baroni 2018, "Generalization without systematicity"; 16,728 training commands in the simple split. Of
every 20, one is held back for validation and two for the test; the splits, with the actions' names shortened one to
one (`I_TURN_RIGHT` to `RIGHT`), are made once with

    mkdir -p runs/scan-data && zcat DIR/tasks_train_simple.txt.gz |
      sed -E 's/^IN: (.*) OUT: /\1\t/; s/I_(TURN_)?//g' | awk -v d=runs/scan-data \
      '{f = NR % 10 == 0 ? "test" : NR % 20 == 5 ? "val" : "train"; print > (d "/" f ".tsv")}'
    python run.py --experiment=scan

Measured on 2026-11-21, one run on 2 CPU cores that other work shared: 12 minutes, 100.00 % of the 1,672 test commands.
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
            "max_length": 128,
        },
        "data": {
            "source": "files",
            "path": "runs/scan-data",
            "source_language": "in",
            "target_language": "out",
            "byte_fallback": False,
            "vocabulary_size": 120,
            "max_length": 64,
            "batch_tokens": 2048,
            "num_shapes": 4,
        },
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 300, "schedule": "cosine", "end_factor": 0.01},
        "training": {
            "num_steps": 6000,
            "label_smoothing": 0.0,
            "eval_every": 2000,
            "checkpoint_every": 2000,
            "ema_decay": 0.995,
            "best_metric": "validation/exact_match",
        },
        # Actions are up to six times as many as the words of the command: more than decoding allows by itself.
        "decoding": {"method": "greedy", "max_length": 64},
    },
)

VARIANTS: dict[str, Config] = {"simple": _SIMPLE}

DESCRIPTIONS = {"simple": "SCAN simple split, 2+2 layers of width 128, exact match"}
