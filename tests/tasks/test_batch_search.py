"""Rows that leave and caches that grow change nothing."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import DecodingConfig
from jaxformer.decoding import beam_search, greedy_search, sample
from jaxformer.tasks import batch_search
from jaxformer.tasks.batch_search import BatchSearch
from jaxformer.tasks.rows import as_sequences, padded
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID
from tests.tasks.test_translator import make_model

ROWS, LENGTH, LONGEST = 32, 8, 26


def rows(seed=0):
    """Source rows of one to eight tokens, and how long each output may be."""
    rng = np.random.default_rng(seed)
    sources = [[*rng.integers(4, 40, rng.integers(0, LENGTH)), EOS_ID] for _ in range(ROWS)]
    return padded(sources, ROWS, LENGTH), rng.integers(1, LONGEST + 1, ROWS).astype(np.int32)


def in_one_piece(model, config, tokens, limits, lines, prefix=None):
    """The same search without a pause, with the longest cache."""
    source = as_sequences(tokens)
    width = {"beam": config.beam_size, "greedy": 1, "sample": config.n_best}[config.method]
    cache, context = model.start_decoding(model.encode(source), source, beam_size=width, max_length=LONGEST)
    common = {
        "max_length": LONGEST, "bos_id": BOS_ID, "eos_id": EOS_ID, "length_penalty": config.length_penalty,
        "prefix": prefix, "max_lengths": limits, "suppress": (PAD_ID, BOS_ID),
    }

    def step(tokens, index, cache):
        return model.decode_step(tokens, index, cache, context)

    if config.method == "sample":
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), lines)
        return sample(step, cache, keys=keys, num_samples=width, temperature=config.temperature, **common)
    if config.method == "greedy":
        return greedy_search(step, cache, batch_size=ROWS, **common)
    return beam_search(step, cache, batch_size=ROWS, beam_size=width, num_hypotheses=config.n_best, **common)


@pytest.fixture
def moves(monkeypatch):
    """How many rows went on and with how many places, each time some did; batches shrink by halves, down to two."""
    monkeypatch.setattr(batch_search, "_SHRINK", 2)
    monkeypatch.setattr(batch_search, "_FEWEST", 2)
    monkeypatch.setattr(batch_search, "_first_places", lambda length: 17)
    taken, moved = [], batch_search._moved

    def recorded(rows, order, *, places):
        taken.append((len(order), places))
        return moved(rows, order, places=places)

    monkeypatch.setattr(batch_search, "_moved", recorded)
    return taken


@pytest.mark.parametrize(
    ("config", "forced"),
    [
        (DecodingConfig(method="greedy"), False),
        pytest.param(DecodingConfig(beam_size=3, n_best=3, length_penalty=1.0), True, marks=pytest.mark.slow),
        (DecodingConfig(beam_size=4, n_best=1, length_penalty=0.6), False),
        pytest.param(DecodingConfig(method="sample", n_best=2, temperature=1.5), True, marks=pytest.mark.slow),
    ],
    ids=["greedy", "n-best, forced", "beam", "sample, forced"],
)
def test_the_result_is_that_of_a_search_in_one_piece(config, forced, moves):
    model = make_model(2)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    search = BatchSearch(graph, rest, config)
    tokens, limits = rows()
    lines = np.arange(ROWS, dtype=np.int32)
    prefix = np.where(np.arange(ROWS)[:, None] % 3 == 0, [[5, 6]], 0).astype(np.int32) if forced else None
    found = search(search.weights(params), tokens, limits, lines, prefix, longest=LONGEST)
    expected = in_one_piece(model, config, tokens, limits, lines, prefix)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-4, atol=1e-5)
    assert len({count for count, _ in moves}) > 2, "batches did not become smaller"
    assert {places for _, places in moves} == {17, LONGEST}, "rows did not leave both before and after the cache grew"


@pytest.mark.parametrize(
    ("config", "grouped", "given"),
    [
        (DecodingConfig(method="greedy"), False, True),
        (DecodingConfig(method="sample", n_best=1), False, True),
        (DecodingConfig(method="greedy"), True, False),
        (DecodingConfig(method="sample", n_best=2), False, False),
        (DecodingConfig(beam_size=4), False, False),
    ],
    ids=["greedy", "one sample", "grouped", "two samples", "beam"],
)
def test_lone_outputs_of_some_rows_are_compiled_with_options_of_their_own(config, grouped, given, monkeypatch):
    asked, jit = [], jax.jit

    def recorded(function, **kwargs):
        asked.append(kwargs.get("compiler_options"))
        return jit(function, **{name: value for name, value in kwargs.items() if name != "compiler_options"})

    monkeypatch.setattr(jax, "jit", recorded)
    monkeypatch.setattr(batch_search, "options_for_few_rows", lambda: {"xla_some": "thing"})
    graph, params, rest = nnx.split(make_model(), nnx.Param, ...)
    search = BatchSearch(graph, rest, config, grouped=grouped)
    assert ({"xla_some": "thing"} in asked) == given
    tokens, limits = rows()
    few = batch_search.FEWEST_ROWS - 1
    search(search.weights(params), tokens[:few], limits[:few], np.arange(few, dtype=np.int32), longest=LONGEST)
    assert search.num_compilations == search._advance_fewest._cache_size() > 0
    assert (search._advance._cache_size() == 0) == given, "fewer rows are not compiled as they always are"


def test_more_rows_of_the_same_shape_compile_nothing_new():
    graph, params, rest = nnx.split(make_model(), nnx.Param, ...)
    search = BatchSearch(graph, rest, DecodingConfig(beam_size=2))
    weights = search.weights(params)
    lines = np.arange(ROWS, dtype=np.int32)
    for seed in range(4):
        search(weights, *rows(seed), lines, longest=LONGEST)
    assert search.num_compilations <= 2  # two lengths of the cache; 32 rows are not divided
