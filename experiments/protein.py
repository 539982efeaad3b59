"""Secondary structure of proteins, a state for every residue, from the sequence alone.

Source: Klausen et al. 2019 (NetSurfP-2.0) for the chains and their DSSP states; a small encoder with rotary positions
that begins with the neighbours of every residue and sees near ones first, without pre-training and without alignments.
What always saying coil scores, and naive Bayes over windows of 17 residues, are printed beside it.

    python run.py --experiment=protein                                      # generated chains, in a minute or two
    python run.py --experiment=protein:netsurfp2 --config.data.path=DIR     # DIR/train.tsv.gz, val.tsv, test_new364.tsv
    python run.py --experiment=protein:netsurfp2 --mode=predict < chains.fasta

`netsurfp2`, once, on 2026-11-26, on 2 cores of an Intel Xeon with AVX-512: Q3 0.7152 and SOV'99 0.680 on test_new364
after 37:50 minutes (naive Bayes: 0.6168; all coil: 0.3858). Of five validations the one of step 4,000 was the best,
0.7210. With 6,000 steps, before: Q3 0.7176. Chosen by arithmetic, not by a search.
"""

from __future__ import annotations

from jaxformer.config import Config, replace

_NETSURFP2 = replace(
    Config(),
    {
        "task": {"kind": "protein", "token_dropout": 0.05},
        "model": {
            "d_model": 128,
            "d_ff": 512,
            "num_heads": 4,
            "num_encoder_layers": 4,
            "local_layers": 2,
            "local_window": 16,
            "neighbourhood": 8,
            "activation": "gelu",
            "position": "rotary",
            "dropout": 0.15,
            "max_length": 2048,
        },
        "data": {
            "source": "files",
            "path": "../shared/data/netsurfp2_ss3",
            "max_length": 512,
            "batch_tokens": 4096,
            "num_shapes": 8,
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1.5e-3,
            "weight_decay": 0.05,
            "b2": 0.98,
            "schedule": "cosine",
            "warmup_steps": 400,
            "end_factor": 0.01,
            "clip_norm": 1.0,
        },
        "training": {
            "num_steps": 5000,
            "label_smoothing": 0.0,
            "log_every": 100,
            "eval_every": 1000,
            "checkpoint_every": 1000,
            "ema_decay": 0.999,
            "best_metric": "validation/q3",
        },
        "monitoring": {"samples": 4},
    },
)

_BUNDLED = replace(
    _NETSURFP2,
    {
        "task": {"part_weights": "learned", "token_dropout": 0.0},
        "model": {
            "d_model": 64,
            "d_ff": 128,
            "num_encoder_layers": 2,
            "local_layers": 1,
            "dropout": 0.1,
            "max_length": 256,
        },
        "data": {"source": "bundled", "path": "", "max_length": 192, "num_shapes": 4},
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.01, "warmup_steps": 50},
        "training": {
            "num_steps": 500,
            "log_every": 50,
            "eval_every": 125,
            "checkpoint_every": 250,
            "ema_decay": 0.98,
        },
    },
)

VARIANTS: dict[str, Config] = {"bundled": _BUNDLED, "netsurfp2": _NETSURFP2}

DESCRIPTIONS = {
    "bundled": "generated chains: states and accessibility together, in a minute or two on two CPU cores",
    "netsurfp2": "NetSurfP-2's chains, 4 layers of width 128, about 40 minutes on two CPU cores",
}
