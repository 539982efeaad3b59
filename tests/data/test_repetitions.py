"""Values that occur more than once, in files that are read part by part."""

from pathlib import Path

import numpy as np
import pytest

from jaxformer.data import repetitions
from jaxformer.data.repetitions import first_occurrences, occurring
from jaxformer.data.store import ArrayFile


def test_first_occurrences_whatever_the_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 300, 1000, np.uint64) * np.uint64(2**55 + 1)
    seen: set[int] = set()
    expected = [not (value in seen or seen.add(value)) for value in values.tolist()]
    file = ArrayFile(tmp_path / "a.npy", np.dtype(np.uint64))
    for part in np.split(values, [10, 10, 700]):
        file.append(part)
    file.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    for size in (1 << 20, 128, 7):
        monkeypatch.setattr(repetitions, "_SLICE", size)
        assert first_occurrences(tmp_path / "a.npy").tolist() == expected


def test_what_a_file_holds_is_found_whatever_the_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, wanted = np.split(np.random.default_rng(1).integers(0, 300, 260, np.uint64), [200])
    np.save(tmp_path / "a.npy", values)
    expected = [value in values.tolist() for value in wanted.tolist()]
    assert set(expected) == {True, False}
    for size in (1 << 20, 64, 7):
        monkeypatch.setattr(repetitions, "_SLICE", size)
        assert occurring(tmp_path / "a.npy", wanted).tolist() == expected
    assert occurring(tmp_path / "a.npy", wanted[:0]).tolist() == []
