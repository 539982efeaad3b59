"""The scripts for clusters: what can be checked without one."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from jaxformer.parallel.processes import _in_cluster, _parsed

LAUNCH = Path(__file__).parents[1] / "launch"

_FAKES = {
    "srun": """#!/usr/bin/env bash
echo "srun $*" >> "$CALLS"
trap 'echo terminated >> "$CALLS"; exit 143' TERM
for _ in $(seq 100); do sleep 0.1; done
""",
    "scontrol": """#!/usr/bin/env bash
echo "scontrol $*" >> "$CALLS"
""",
}
_FAKES["python"] = _FAKES["srun"].replace("srun $*", "python $*")


@pytest.mark.parametrize(
    ("script", "started"),
    [("slurm.sbatch", "srun --kill-on-bad-exit=1 python run.py"), ("slurm_sweep.sbatch", "python run.py")],
)
def test_the_batch_script_passes_the_signal_on_and_queues_the_run_again(script, started, tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    for name, text in _FAKES.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
    }  # fmt: skip
    command = ["bash", str(LAUNCH / script), "--experiment=wmt:big", "--workdir=a b"]
    with subprocess.Popen(command, env=environment) as process:
        for _ in range(600):
            if calls.exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.terminate()
        assert process.wait(30) == 143
    first, *rest = calls.read_text().splitlines()
    assert first.startswith(f"{started} --experiment=wmt:big --workdir=a b")
    assert rest == ["terminated", "scontrol requeue 7"]


def test_the_pods_of_the_job_set_agree_on_their_number_and_address():
    found = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    (job,) = found["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    (join,) = (argument for argument in container["args"] if argument.startswith("--join="))
    number, processes, host, port = _parsed(join.removeprefix("--join=").replace("$(JOB_COMPLETION_INDEX)", "3"))
    assert (number, processes) == (3, pods["completions"])
    assert pods["completions"] == pods["parallelism"]
    assert host == f"{found['metadata']['name']}-{job['name']}-0-0.{pods['template']['spec']['subdomain']}"
    assert port == container["ports"][0]["containerPort"]
    assert container["env"][0]["name"] == "JOB_COMPLETION_INDEX"


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "8"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_NTASKS": "8"}, False),  # a shell of `salloc`, not a step
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_clusters_are_recognised_by_what_they_set(monkeypatch, variables, several):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _in_cluster() is several
