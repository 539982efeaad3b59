"""Ctrl-C before a program has begun is quiet, and afterwards what it was."""

import signal
import subprocess
import sys

import pytest

from jaxformer.monitoring.console import exit_code
from jaxformer.monitoring.early import end_quietly

INTERRUPT = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ends_with_130_and_a_line_whoever_catches_exceptions():
    program = f"""
from jaxformer.monitoring.early import end_quietly
end_quietly("run.py")
try:
    {INTERRUPT}
except BaseException:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "run.py: interrupted\n")


def test_the_program_takes_over(capsys):
    end_quietly("run.py")
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert exit_code("run.py", lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert capsys.readouterr().err == "run.py: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_in_the_background_ignores_it_as_before():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_quietly("run.py")
    assert exit_code("run.py", lambda: None) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
