"""A training run for tests, on simulated devices, as one of several processes or alone.

    python -m tests.parallel.worker DEVICES JOIN DATA WORKDIR [section__field=value ...]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import jax


def main(devices: str, join: str, data: str, workdir: str, *overrides: str) -> int:
    """Trains; returns the exit code."""
    jax.config.update("jax_num_cpu_devices", int(devices))
    from jaxformer import training
    from jaxformer.monitoring.console import exit_code, log_to_stderr
    from jaxformer.parallel.processes import start_processes
    from jaxformer.training import shared_folder
    from tests.training import reversal

    fields = {name: ast.literal_eval(value) for name, _, value in (item.partition("=") for item in overrides)}

    shared_folder.SECONDS = 1.0  # this is one machine

    def work() -> None:
        start_processes(join, seconds=60)
        log_to_stderr()
        training.train(reversal.config(Path(data), **fields), Path(workdir))

    return exit_code("worker", work)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
