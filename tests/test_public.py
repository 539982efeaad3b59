"""The public surface: every name is there, and small parts stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jaxformer as jf


def test_every_public_name_exists():
    for name in jf.__all__:
        assert getattr(jf, name) is not None
    assert set(jf.__all__) <= set(dir(jf))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Attention'"):
        _ = jf.Attention


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
