"""Translation English-German on WMT14, and on a bundled corpus where there is none.

Source: Vaswani et al. 2017, "Attention is all you need", table 3 (`base` and `big`) and sections 5 and 6.1 (batches of
about 25,000 source and 25,000 target tokens, warm-up of 4,000 steps, averaged checkpoints, beam 4 with length penalty
0.6).

    python run.py --experiment=wmt                                # assess the machine, choose a variant, say why
    python run.py --experiment=wmt:base --mode=prepare            # download WMT14 and prepare it, once
    python run.py --experiment=wmt:base                           # English to German
    python run.py --experiment=wmt:base --config.data.reverse=true --workdir=runs/wmt-base-de-en
    python run.py --experiment=wmt:tiny --config.data.source=files --config.data.path=DIR

`bundled`, measured on 2026-11-25, one run on 2 CPU cores with AVX-512, empty caches: 3:36 minutes, test BLEU 96.22
(2026-11-22, cores without AVX-512, on a bad day: 5:48, 95.98).
"""

from __future__ import annotations

from jaxformer.config import Config, replace

_PAPER = replace(
    Config(),
    {
        "precision": "bf16",
        "model": {"norm_position": "post", "dropout": 0.1, "max_length": 256},
        "data": {
            "source": "tfds",
            "name": "wmt14_translate/de-en",
            "source_language": "en",
            "target_language": "de",
            "vocabulary_size": 37000,
            "max_length": 128,
            "max_length_ratio": 2.5,
            "batch_tokens": 25600,
            "row_multiple": 8,  # the same batches on 1, 2, 4 or 8 devices
            "num_threads": 8,
            "prefetch": 16,
        },
        "optimizer": {
            "name": "adam",
            "b1": 0.9,
            "b2": 0.98,
            "eps": 1e-9,
            "schedule": "inverse_sqrt",
            "warmup_steps": 4000,
            # Equation 3 of the paper at its peak, the end of the warm-up: d_model^-0.5 * warmup_steps^-0.5.
            "learning_rate": 512**-0.5 * 4000**-0.5,
        },
        "training": {
            "num_steps": 100_000,
            "label_smoothing": 0.1,
            "log_every": 100,
            "eval_every": 5000,
            "checkpoint_every": 1500,
            "keep_checkpoints": 5,
            "average_checkpoints": 5,
        },
        "decoding": {"beam_size": 4, "length_penalty": 0.6},
    },
)

_BIG = replace(
    _PAPER,
    {
        "model": {"d_model": 1024, "d_ff": 4096, "num_heads": 16, "dropout": 0.3},
        "optimizer": {"learning_rate": 1024**-0.5 * 4000**-0.5},
        "training": {"num_steps": 300_000, "keep_checkpoints": 20, "average_checkpoints": 20},
    },
)

_SMALL_SHAPE = {
    "d_model": 128,
    "d_ff": 256,
    "num_heads": 4,
    "num_encoder_layers": 4,
    "num_decoder_layers": 4,
    "norm_position": "pre",
}

_TINY = replace(
    _PAPER,
    {
        "precision": "fp32",
        "model": {**_SMALL_SHAPE, "dropout": 0.3},
        "data": {"vocabulary_size": 8000, "batch_tokens": 4096, "row_multiple": 1, "num_threads": 2, "prefetch": 4},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 1000},
        "training": {
            "num_steps": 20_000,
            "eval_every": 2000,
            "checkpoint_every": 1000,
            "eval_examples": 1000,
            "keep_checkpoints": 5,
            "average_checkpoints": 5,
        },
        "decoding": {"beam_size": 5, "length_penalty": 1.0},
    },
)

_BUNDLED = replace(
    Config(),
    {
        "model": {**_SMALL_SHAPE, "num_encoder_layers": 2, "num_decoder_layers": 2, "dropout": 0.0, "max_length": 64},
        "data": {
            "source": "bundled",
            "num_examples": 100_000,
            "vocabulary_size": 2000,
            "max_length": 48,
            "batch_tokens": 2048,
            "batching": "pack",  # one shape to compile, and 0.93 of its slots are real tokens
            "pack_length": 64,
        },
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 200, "schedule": "cosine", "end_factor": 0.01},
        "training": {
            "num_steps": 1400,
            "label_smoothing": 0.05,
            "log_every": 50,
            "eval_every": 350,
            "checkpoint_every": 350,
            "eval_examples": 200,
            "ema_decay": 0.99,
        },
        "decoding": {"beam_size": 4, "length_penalty": 1.0},
    },
)

VARIANTS: dict[str, Config] = {"base": _PAPER, "big": _BIG, "tiny": _TINY, "bundled": _BUNDLED}

DESCRIPTIONS = {
    "base": "WMT14 en-de, Transformer-base of Vaswani et al. 2017 (needs --mode=prepare first; for GPUs)",
    "big": "WMT14 en-de, Transformer-big of Vaswani et al. 2017 (needs --mode=prepare first; for GPUs)",
    "tiny": "WMT14 or your own text, 4+4 layers of width 128: for small data and small machines",
    "bundled": "the bundled English-German corpus: trains in minutes on two CPU cores, needs no download",
}


def choose(has_accelerator: bool, wmt_prepared: bool) -> tuple[str, str]:
    """The variant for a machine, and why, when the person names none."""
    if has_accelerator and wmt_prepared:
        return "base", "an accelerator is present and WMT14 is prepared"
    missing = [] if has_accelerator else ["no accelerator is present"]
    if not wmt_prepared:
        missing.append("WMT14 is not prepared (python run.py --experiment=wmt:base --mode=prepare downloads it)")
    return "bundled", " and ".join(missing)
