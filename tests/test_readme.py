"""The library example of the README does what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_library_example_learns_to_reverse_digits():
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[0], str(README), "exec"), {})
    match = re.fullmatch(r"(\d+)% of 64 unseen rows are right\n", printed.getvalue())
    assert match is not None, printed.getvalue()
    assert int(match[1]) >= 95
