"""Rules of the layout that import-linter cannot say."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _imported(path):
    """The top-level packages that a file imports anywhere, `importlib.import_module("...")` included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (arg.value.partition(".")[0] for arg in node.args if isinstance(arg, ast.Constant))


def test_nothing_imports_tensorflow():
    files = [ROOT / "run.py", *(ROOT / "experiments").rglob("*.py"), *(ROOT / "jaxformer").rglob("*.py")]
    found = {path: set(_imported(path)) for path in files}
    assert "tensorflow_datasets" in set().union(*found.values())  # dynamic imports are seen
    assert [path.name for path, names in found.items() if "tensorflow" in names] == []


def test_every_module_says_what_it_is_for():
    files = [ROOT / "run.py", *(ROOT / "experiments").rglob("*.py"), *(ROOT / "jaxformer").rglob("*.py")]
    assert [path.name for path in files if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []
