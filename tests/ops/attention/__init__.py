"""One set of assertions for every implementation of attention (base.py), and what is particular to each."""

import pytest

pytest.register_assert_rewrite("tests.ops.attention.base")
