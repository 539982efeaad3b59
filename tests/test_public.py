"""The public surface: every name is there, and small parts stay light."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxformer as jf


def test_every_public_name_exists():
    for name in jf.__all__:
        assert getattr(jf, name) is not None
    assert set(jf.__all__) <= set(dir(jf))


def test_every_section_of_the_configuration_is_public():
    sections = [field.default for field in dataclasses.fields(jf.Config) if dataclasses.is_dataclass(field.default)]
    assert len(sections) > 10
    assert [type(one) for one in sections] == [getattr(jf, type(one).__name__) for one in sections]


def test_what_public_functions_return_is_public():
    functions = [getattr(jf, name) for name in jf.__all__ if inspect.isfunction(getattr(jf, name))]
    for of in (jf.Translator, jf.TranslatorPool, jf.TextClassifier, jf.ChainPredictor, jf.LabelPredictor):
        functions += [member for name, member in vars(of).items() if inspect.isfunction(member) and name[0] != "_"]
    returned = {word for one in functions for word in re.findall(r"\w+", str(one.__annotations__["return"]))}
    ours = {word for word in returned for one in functions if "jaxformer" in _home(one, word)}
    assert {"Translation", "PairScore", "Classified", "Folded", "PreparedData", "RDrop"} <= ours
    assert ours - {"TrainStep"} <= set(jf.__all__)  # a function


def _home(function, word):
    """The module of the class that `function` knows as `word`; empty for none."""
    found = function.__globals__.get(word)
    return found.__module__ if inspect.isclass(found) else ""


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Attention'"):
        _ = jf.Attention


def test_type_checkers_see_the_same_names():
    package = Path(jf.__file__).parent
    stub = ast.parse((package / "__init__.pyi").read_text(encoding="utf-8"))
    found = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    imports = [(node.module, alias.name) for node in found for alias in node.names]
    assert sorted(name for _, name in imports) == jf.__all__
    for module, name in imports:
        assert getattr(importlib.import_module(module), name) is getattr(jf, name)
    settings = configparser.ConfigParser()
    settings.read(package.parent / "setup.cfg")
    assert (package / "py.typed").is_file()  # without it, type checkers take everything for Any
    assert settings["options.package_data"]["jaxformer"].split() == ["py.typed", "*.pyi"]


def test_ops_models_and_decoding_need_only_jax_flax_and_numpy():
    heavy = "grain sentencepiece sacrebleu sacremoses matplotlib tensorboardX ml_collections absl.flags psutil"
    code = f"""
import sys
import jaxformer, jaxformer.ops, jaxformer.nn, jaxformer.models, jaxformer.decoding
import flax.nnx
found = [name for name in {heavy.split()} if name in sys.modules]
print(",".join(found))
"""
    baseline = subprocess.run(
        [sys.executable, "-c", code.replace("import jaxformer, jaxformer.ops, jaxformer.nn, jaxformer.models, "
                                            "jaxformer.decoding\n", "")],
        capture_output=True, text=True, check=True,
    ).stdout  # what flax brings itself
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ours == baseline
