"""How a program ends: SIGTERM as an ordinary end, an output that nobody takes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from jaxformer.monitoring.console import ended_in_order


def test_sigterm_leaves_what_is_open_and_the_handler_from_before_returns():
    before, left = signal.getsignal(signal.SIGTERM), []

    def asked():
        with ended_in_order():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                left.append(True)

    with pytest.raises(SystemExit) as ended:
        asked()
    assert (ended.value.code, left) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before


def _ends(body, out):
    """The exit code and the messages of a program that ends as `run.py` does."""
    program = f"import sys; from jaxformer.monitoring.console import exit_code\n{body}\nsys.exit(exit_code('p', work))"
    done = subprocess.run([sys.executable, "-c", program], stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_full_standard_output_is_told_once():
    work = """
from jaxformer.monitoring.streams import open_output
def work():
    with open_output("") as output:
        output.write("x")
"""
    with open("/dev/full", "w") as full:
        code, said = _ends(work, full)
    assert (code, said) == (
        1, "p: cannot write standard output: the disk is full: free some space or choose another --output\n"
    )  # fmt: skip


def test_a_program_without_standard_output_ends_as_others_do():
    code, said = _ends("import os\nos.close(1); sys.stdout = None\nwork = lambda: None", subprocess.DEVNULL)
    assert (code, said) == (0, "")
