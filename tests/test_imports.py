"""The import contracts of the design (setup.cfg), run with the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_imports_follow_the_arrows_of_the_design():
    root = Path(__file__).parents[1]
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout
