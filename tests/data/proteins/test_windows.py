import itertools

import numpy as np
import pytest

from jaxformer.data.proteins.windows import cut, put_together


@pytest.mark.parametrize(
    ("length", "longest"), [(1, 4), (10, 10), (11, 10), (100, 10), (2000, 700), (701, 700), (5, 4)]
)
def test_windows_cover_every_residue_once_and_overlap(length, longest):
    windows = cut(length, longest)
    assert all(window.stop - window.start == min(length, longest) for window in windows)
    assert (windows[0].start, windows[-1].stop) == (0, length)
    owned = np.concatenate([np.arange(window.first, window.last) for window in windows])
    np.testing.assert_array_equal(owned, np.arange(length))
    for window, following in itertools.pairwise(windows):
        assert window.stop - following.start >= longest // 4
        assert window.start <= window.first < window.last <= window.stop
        # Neither window sees much less around their border than the other.
        assert abs((window.stop - window.last) - (following.first - following.start)) <= 1


def test_what_windows_say_is_put_together_from_their_owners():
    values = np.random.default_rng(0).normal(size=(95, 3))
    windows = cut(95, 40)
    parts = []
    for window in windows:
        part = np.full((window.stop - window.start, 3), np.nan)
        part[window.first - window.start : window.last - window.start] = values[window.first : window.last]
        parts.append(part)
    np.testing.assert_array_equal(put_together(windows, parts), values)


def test_windows_too_short_to_overlap_are_refused():
    with pytest.raises(ValueError, match="windows of 3 residues cannot overlap"):
        cut(10, 3)
