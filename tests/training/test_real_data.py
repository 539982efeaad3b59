"""Every study on the real data beside the project, from the files to the scores; no more than a few steps.

What full runs reach is in `docs/`; that studies learn is tested on generated data.
"""

from __future__ import annotations

import math
from pathlib import Path

import jax
import pytest

import experiments
from jaxformer import training
from jaxformer.config import replace
from jaxformer.training.workdir import Workdir

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
QUICK = {
    "training.num_steps": 3,
    "optimizer.warmup_steps": 1,
    "training.eval_every": 0,
    "training.checkpoint_every": 0,
    "model.d_model": 16,
    "model.d_ff": 32,
    "model.num_heads": 2,
    "data.num_shapes": 1,
    "monitoring.progress": False,
    "monitoring.tensorboard": False,
}


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize(
    ("experiment", "path", "rival", "metric", "low", "high"),
    [
        ("protein:netsurfp2", "netsurfp2_ss3", "window naive Bayes", "test/q3", 0.60, 0.63),
        ("stocks:kdd17", "stocks_kdd17/features11.csv.gz", "always rise", "test/accuracy", 0.5284, 0.5286),
        ("stocks:series", "ett/ETTh1.csv", "least squares", "test/mse", 0.383, 0.384),
        ("sentiment:sst2", "sst2", "naive Bayes", "validation/accuracy", 0.80, 0.82),
    ],
)
def test_a_study_runs_on_real_data_beside_its_baselines(tmp_path, experiment, path, rival, metric, low, high):
    name, _, variant = experiment.partition(":")
    config = experiments.find(name).config(variant)
    changes = QUICK | {"data.path": str(SHARED / path), "data.cache_dir": str(tmp_path)}
    try:
        result = training.train(replace(config, changes), Workdir(tmp_path / "run"))
    finally:
        jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process
    assert low < result["baselines"][rival][metric] < high  # as published, or as the documents say
    assert all(map(math.isfinite, result["metrics"].values()))
    assert metric in result["metrics"]
