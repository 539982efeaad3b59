"""Eight simulated devices for a test: in a process of its own, because their number is fixed when JAX starts."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_on_eight_devices(script: str) -> None:
    """Runs `script`, which may be indented, with `jax`, `jnp` and `np` at hand; fails with its output if it fails."""
    head = """\
        import jax
        jax.config.update("jax_num_cpu_devices", 8)
        import jax.numpy as jnp, numpy as np
    """
    text = f"{textwrap.dedent(head)}\n{textwrap.dedent(script)}\nprint('fine')\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=600, check=False)
    # jax 0.12 prints the place of a refused sharding to standard output, hence the last line alone.
    assert done.stdout.splitlines()[-1:] == ["fine"], done.stdout + done.stderr
