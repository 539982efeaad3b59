"""A random order: every number once, different for every key, and even."""

import numpy as np
import pytest

from jaxformer.data.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000, 65537])
def test_every_number_comes_once_and_windows_agree(size: int) -> None:
    order = Permutation(size, 3, 1)
    whole = order(np.arange(size))
    assert sorted(whole) == list(range(size))
    cut = size // 3
    np.testing.assert_array_equal(np.concatenate([order(np.arange(cut)), order(np.arange(cut, size))]), whole)


def test_the_key_decides() -> None:
    numbers = np.arange(1000)
    first = Permutation(1000, 3, 1)(numbers)
    np.testing.assert_array_equal(Permutation(1000, 3, 1)(numbers), first)
    for other in ((3, 2), (4, 1), (1, 3)):
        agreeing = (Permutation(1000, *other)(numbers) == first).sum()
        assert agreeing < 10  # 1 expected; 10 or more has a chance of 1e-7


def test_places_are_evenly_spread() -> None:
    """Into which eighth two neighbours go, over 6,400 keys: chi-square with 63 degrees of freedom."""
    eighths = np.stack([Permutation(4096, key)(np.array([0, 1])) for key in range(6400)]) // 512
    counts = np.bincount(eighths[:, 0] * 8 + eighths[:, 1], minlength=64)
    assert ((counts - 100) ** 2 / 100).sum() < 115  # a chance of 1e-4
