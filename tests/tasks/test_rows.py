import numpy as np
import pytest

from jaxformer.tasks.rows import as_sequences, group_rows, padded, row_lengths


def test_row_lengths_are_few_and_end_at_the_longest():
    assert row_lengths(100) == [16, 32, 64, 100]
    assert row_lengths(64) == [16, 32, 64]
    assert row_lengths(10) == [10]


@pytest.mark.parametrize("count", [0, 1, 5, 16, 17, 700])
def test_every_row_is_in_one_batch_that_holds_it(count):
    lengths = np.random.default_rng(count).integers(1, 101, size=count).tolist()
    seen, shapes = [], set()
    for places, rows, length in group_rows(lengths, 100, 1024):
        assert len(places) <= rows
        assert max(lengths[place] for place in places) <= length
        assert rows * length <= 1024 or rows == 1
        seen += places
        shapes.add((rows, length))
    assert sorted(seen) == list(range(count))
    assert [lengths[place] for place in seen] == sorted(lengths, reverse=True)
    assert len(shapes) <= 4


def test_small_requests_get_few_rows():
    assert [rows for _, rows, _ in group_rows([3], 64, 4096)] == [1]
    assert [rows for _, rows, _ in group_rows([3] * 9, 64, 4096)] == [16]
    assert [rows for _, rows, _ in group_rows([60] * 9, 64, 256)] == [4, 4, 4]
    assert [rows for _, rows, _ in group_rows([60] * 2, 64, 10)] == [1, 1]
    assert [rows for _, rows, _ in group_rows([3] * 700, 64, 2**20)] == [256, 256, 256]


def test_padded_rows_and_empty_ones():
    tokens = padded([[5, 6, 3], [3]], 3, 4)
    assert tokens.tolist() == [[5, 6, 3, 0], [3, 0, 0, 0], [0, 0, 0, 0]]
    sequences = as_sequences(tokens)
    assert np.asarray(sequences.tokens).tolist() == [[5, 6, 3, 0], [3, 0, 0, 0], [3, 0, 0, 0]]
    assert np.asarray(sequences.segment_ids).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert np.asarray(sequences.weights).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert np.asarray(sequences.positions)[0].tolist() == [0, 1, 2, 3]
