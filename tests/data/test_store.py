"""Tokens written are the tokens read, in memory or mapped."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxformer.data import store
from jaxformer.data.store import (
    DatasetWriter,
    TokenizedDataset,
    ranges,
    select,
    token_dtype,
)

RECORDS = [([5, 6, 3], [7, 3]), ([3], [3]), ([9, 9, 9, 3], [60000, 8, 3]), ([11, 3], [12, 13, 14, 3])]


def written(folder: Path, dtype: np.dtype) -> Path:
    writer = DatasetWriter(folder, dtype)
    for part in (RECORDS[:1], RECORDS[1:]):
        tokens = np.array([i for record in part for side in record for i in side], dtype)
        lengths = np.array([[len(side) for side in record] for record in part], np.int32)
        writer.append(tokens, lengths[:, 0], lengths[:, 1])
    writer.close()
    return folder


def read(dataset: TokenizedDataset) -> list[tuple[list[int], list[int]]]:
    return [(source.tolist(), target.tolist()) for source, target in (dataset[i] for i in range(len(dataset)))]


@pytest.mark.parametrize("dtype", [np.dtype(np.uint16), np.dtype(np.int32)])
def test_what_is_written_is_read(tmp_path: Path, dtype: np.dtype) -> None:
    dataset = TokenizedDataset.open(written(tmp_path / "a", dtype))
    assert dataset.tokens.dtype == dtype
    assert read(dataset) == RECORDS
    source, source_lengths, target, target_lengths = dataset.fetch(np.array([2, 0, 2]))
    assert source.tolist() == [9, 9, 9, 3, 5, 6, 3, 9, 9, 9, 3]
    assert target.tolist() == [60000, 8, 3, 7, 3, 60000, 8, 3]
    assert (source_lengths.tolist(), target_lengths.tolist()) == ([4, 3, 4], [3, 2, 3])
    assert source.dtype == target.dtype == np.int32


def test_copies_are_runs_of_records_even_where_some_were_dropped(tmp_path: Path) -> None:
    written(tmp_path / "a", np.dtype(np.uint16))
    whole = TokenizedDataset.open(tmp_path / "a")
    assert read(whole.copy(np.array([2, 0]), np.array([2, 1]))) == [RECORDS[2], RECORDS[3], RECORDS[0]]
    select(tmp_path / "a", np.array([True, False, True, True]))
    assert read(TokenizedDataset.open(tmp_path / "a").copy(np.array([0]), np.array([3]))) == [RECORDS[0], *RECORDS[2:]]


def test_records_can_be_fetched_after_pages_were_given_back(tmp_path: Path) -> None:
    dataset = TokenizedDataset.open(written(tmp_path / "a", np.dtype(np.uint16)))
    for _ in range(3):
        dataset.release()
        assert dataset.fetch(np.array([0]))[0].tolist() == [5, 6, 3]
        assert dataset.source_lengths.tolist() == [3, 1, 4, 2]


def test_selection_drops_records_and_keeps_the_others_whole(tmp_path: Path) -> None:
    select(written(tmp_path / "a", np.dtype(np.uint16)), np.array([False, True, False, True]))
    assert read(TokenizedDataset.open(tmp_path / "a")) == [RECORDS[1], RECORDS[3]]
    select(tmp_path / "a", np.array([False, False]))
    assert len(TokenizedDataset.open(tmp_path / "a")) == 0


@pytest.mark.parametrize("slice_of", [1 << 20, 3])
def test_the_checksum_is_that_of_all_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_of: int) -> None:
    monkeypatch.setattr(store, "_SLICE", slice_of)
    dataset = TokenizedDataset.open(written(tmp_path / "a", np.dtype(np.uint16)))
    assert dataset.checksum() == zlib.crc32(dataset.tokens.tobytes())


def test_lists_make_the_same_data_set_in_memory() -> None:
    dataset = TokenizedDataset.from_lists([s for s, _ in RECORDS], [t for _, t in RECORDS])
    assert read(dataset) == RECORDS
    assert len(TokenizedDataset.from_lists([], [])) == 0


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    assert ranges(np.array([], np.int64), np.array([], np.int32)).tolist() == []


def test_the_token_type_is_the_smallest_that_holds_the_vocabulary() -> None:
    assert token_dtype(1 << 16) == np.uint16
    assert token_dtype((1 << 16) + 1) == np.int32
