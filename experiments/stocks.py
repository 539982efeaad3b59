"""Prices and other series: does a stock rise tomorrow, and what do the next hours of a series look like.

Sources: Feng et al. 2019 for the 11 features and the labels of KDD17 (50 US stocks, 2007 to 2016; validation 2015, test
2016), Xu and Cohen 2018 for movement with days of little movement left out, Yoo et al. 2021 for what the market did
beside what a stock did; Nie et al. 2023 (PatchTST) for patches, one channel at a time, and Kim et al. 2022 for
reversible normalisation; ETTh1 as Zhou et al. 2021 split it.

    python run.py --experiment=stocks                                          # generated prices, in a minute
    python run.py --experiment=stocks:bundled_series                           # a generated series, in a minute
    python run.py --experiment=stocks:kdd17 --config.data.path=FILE            # features11.csv.gz, or OHLCV
    python run.py --experiment=stocks:series --config.data.path=ETTh1.csv
    python run.py --mode=predict --workdir=runs/stocks-series < past.csv > forecast.csv

What anyone can do on the same data without a network is in docs/stocks.md.
"""

from __future__ import annotations

from jaxformer.config import Config, replace

_MOVEMENT = replace(
    Config(),
    {
        "task": {"kind": "price_movement", "pooling": "cls", "class_weights": "balanced"},
        "model": {
            "d_model": 32,
            "d_ff": 64,
            "num_heads": 4,
            "num_encoder_layers": 1,
            "activation": "gelu",
            "position": "learned",
            "max_length": 8,
            "dropout": 0.1,
        },
        "data": {"source": "bundled", "max_length": 5, "batch_tokens": 2560, "num_shapes": 1},
        "series": {"window": 5, "split": "0.7,0.15,0.15", "outliers": 0.001, "loss": "huber"},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 4e-3,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup_steps": 50,
            "clip_norm": 1.0,
        },
        "training": {
            "num_steps": 400,
            "label_smoothing": 0.0,
            "log_every": 50,
            "eval_every": 100,
            "checkpoint_every": 200,
            "ema_decay": 0.98,
            "best_metric": "validation/loss",
        },
    },
)

_KDD17 = replace(
    _MOVEMENT,
    {
        "model": {"dropout": 0.5},
        "data": {
            "source": "files",
            "path": "../shared/data/stocks_kdd17/features11.csv.gz",
            "batch_tokens": 5120,
        },
        "series": {"split": "2015-01-02,2016-01-04", "linear_skip": True, "market_days": 10},
        "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.1},
        "training": {"num_steps": 300, "ema_decay": 0.98, "eval_every": 50, "checkpoint_every": 100},
    },
)

_SERIES = replace(
    Config(),
    {
        "task": {"kind": "forecasting"},
        "model": {
            "d_model": 16,
            "d_ff": 128,
            "num_heads": 4,
            "num_encoder_layers": 1,
            "activation": "gelu",
            "position": "learned",
            "max_length": 64,
            "dropout": 0.5,
        },
        "data": {
            "source": "files",
            "path": "../shared/data/ett/ETTh1.csv",
            "max_length": 12,
            "batch_tokens": 10752,  # 896 rows: 128 windows of 7 channels
            "num_shapes": 1,
        },
        "series": {
            "split": "8640,2880,2880",
            "window": 96,
            "horizon": 96,
            "patch_length": 16,
            "patch_stride": 8,
            "loss": "squared",
            "linear_skip": True,
        },
        "optimizer": {
            "name": "adam",
            "learning_rate": 2e-3,
            "b2": 0.999,
            "eps": 1e-8,
            "schedule": "cosine",
            "warmup_steps": 50,
            "clip_norm": 1.0,
        },
        "training": {
            "num_steps": 1000,  # 15 epochs of ETTh1
            "label_smoothing": 0.0,
            "log_every": 50,
            "eval_every": 100,
            "checkpoint_every": 100,
            "ema_decay": 0.99,
            "best_metric": "validation/mse",
        },
    },
)

_BUNDLED_SERIES = replace(
    _SERIES,
    {
        "model": {"num_encoder_layers": 1, "d_ff": 64, "dropout": 0.1},
        "data": {"source": "bundled", "path": "", "batch_tokens": 3072},
        "series": {"split": "0.7,0.1,0.2", "horizon": 24},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"num_steps": 400, "ema_decay": 0.95, "log_every": 50, "eval_every": 100, "checkpoint_every": 200},
    },
)

VARIANTS: dict[str, Config] = {
    "bundled": _MOVEMENT,
    "kdd17": _KDD17,
    "series": _SERIES,
    "bundled_series": _BUNDLED_SERIES,
}

DESCRIPTIONS = {
    "bundled": "generated prices: rise or fall on the next day, and the return; trains in a minute, needs no download",
    "kdd17": "50 US stocks, 2007 to 2016 (needs features11.csv.gz or OHLCV): rise or fall, and the return",
    "series": "any CSV of series, with the recipe for ETTh1: the next 96 hours from 96, with bands",
    "bundled_series": "a generated series with seasons: the next 24 hours from 96, with bands; trains in a minute",
}
