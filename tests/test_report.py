"""What benchmarks share: flags that count something."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import report


def test_a_flag_that_counts_takes_whole_numbers_above_0():
    assert [report.positive(text) for text in ("1", "1_000")] == [1, 1000]
    for text in ("0", "-3", "x", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} is no whole number above 0"):
            report.positive(text)
