import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decoding import beam_search, greedy_search, length_norm
from tests.decoding.recurrent import BOS, EOS, Recurrent, all_hypotheses, norm, plain_beam, recurrent_step, rows_of

IDS = {"bos_id": BOS, "eos_id": EOS}


@functools.partial(
    jax.jit,
    static_argnames=(
        "batch_size", "beam_size", "max_length", "length_penalty", "num_hypotheses", "suppress", "early_stopping"
    ),
)
def _search(weights, cache, **options):
    return beam_search(recurrent_step(weights), cache, **options, **IDS)


def search(model, batch_size, beam_size, max_length, rows=slice(None), **options):
    cache = model.cache(beam_size, rows)
    return _search(
        model.weights, cache, batch_size=batch_size, beam_size=beam_size, max_length=max_length, **options
    )


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_a_wide_beam_finds_the_true_best(alpha):
    model = Recurrent(0, batch_size=3, eos_bias=-0.5)
    # 80 = 16 live prefixes x 5 tokens: the whole tree of sequences of up to four tokens fits in the beam.
    found = search(model, 3, 80, 4, length_penalty=alpha, num_hypotheses=20)
    for row in range(3):
        expected = all_hypotheses(model, row, 4, alpha)[:20]
        assert rows_of(found, row) == [tokens for _, _, tokens in expected]
        np.testing.assert_allclose(found.scores[row], [score for score, _, _ in expected], rtol=1e-5)
        np.testing.assert_allclose(found.log_probs[row], [log_prob for _, log_prob, _ in expected], rtol=1e-5)


@pytest.mark.parametrize(("seed", "beam_size", "alpha"), [(1, 2, 1.0), (2, 3, 0.0), (3, 4, 0.6), (4, 5, 1.5)])
def test_it_is_beam_search(seed, beam_size, alpha):
    model = Recurrent(seed, batch_size=6, vocabulary=7, scale=1.5, eos_bias=-1.0)
    found = search(model, 6, beam_size, 8, length_penalty=alpha)
    for row in range(6):
        expected = plain_beam(model, row, beam_size, 8, alpha)
        assert rows_of(found, row) == [tokens for _, _, tokens in expected]
        np.testing.assert_allclose(found.scores[row], [score for score, _, _ in expected], rtol=2e-5)


def test_a_large_vocabulary_is_searched_exactly():
    model = Recurrent(5, batch_size=3, vocabulary=2001, scale=1.0, eos_bias=5.0)
    found = search(model, 3, 4, 6, length_penalty=1.0)
    for row in range(3):
        assert rows_of(found, row) == [tokens for _, _, tokens in plain_beam(model, row, 4, 6, 1.0)]


def test_beam_one_is_greedy():
    for seed, alpha in ((0, 0.0), (1, 1.0)):
        model = Recurrent(seed, batch_size=8)
        beam = search(model, 8, 1, 9, length_penalty=alpha)
        greedy = greedy_search(model.step, model.cache(1), batch_size=8, max_length=9, length_penalty=alpha, **IDS)
        assert beam.tokens.shape == (8, 1, 9)
        for one, other in zip(beam, greedy, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("alpha", "num_hypotheses"), [(0.0, 1), (1.0, 1), (1.0, 3), (3.0, 3)])
def test_stopping_early_changes_nothing(alpha, num_hypotheses):
    differs = False
    for seed in range(4):
        model = Recurrent(seed, batch_size=16, vocabulary=6, scale=2.0)
        limits = np.arange(16, dtype=np.int32) + 3
        options = {"length_penalty": alpha, "num_hypotheses": num_hypotheses, "max_lengths": limits}
        early = search(model, 16, 3, 18, **options)
        late = search(model, 16, 3, 18, early_stopping=False, **options)
        for one, other in zip(early, late, strict=True):
            np.testing.assert_array_equal(one, other)
        # The first hypothesis to finish must not always be the best, or the test would prove little.
        differs |= bool((np.asarray(late.lengths[:, 0]) > np.asarray(late.lengths).min(axis=1)).any())
    assert differs or num_hypotheses == 1


def test_stopping_early_saves_steps():
    steps = []

    def counted(tokens, index, cache):
        jax.debug.callback(steps.append, index)
        return model.step(tokens, index, cache)

    model = Recurrent(0, batch_size=4, eos_bias=4.0)
    taken = {}
    for early in (True, False):
        steps.clear()
        beam_search(
            counted, model.cache(3), batch_size=4, beam_size=3, max_length=30, num_hypotheses=1,
            early_stopping=early, **IDS,
        ).tokens.block_until_ready()
        jax.effects_barrier()
        taken[early] = len(steps)
    assert taken[False] == 30
    assert taken[True] < 12


def chain(tokens, index, cache):
    """After begin: end 0.5, token 2 0.5 (a hair less); after token 2: end 0.9, others 0.05."""
    begin = jnp.log(jnp.array([1e-9, 0.5, 0.4999, 1e-4]))
    after = jnp.log(jnp.array([0.05, 0.9, 1e-9, 0.05]))
    return jnp.where((tokens == BOS)[..., None], begin, after), cache


def test_length_penalty_by_hand():
    # Log-probabilities: [end] ln 0.5 = -0.6931; [2, end] ln 0.4999 + ln 0.9 = -0.7987. Norms with alpha 1: 1 and 7/6.
    for alpha, expected, score in ((0.0, [EOS], -0.6931), (1.0, [2, EOS], -0.7987 * 6 / 7)):
        found = beam_search(chain, {}, batch_size=1, beam_size=2, max_length=6, length_penalty=alpha, **IDS)
        assert rows_of(found, 0)[0] == expected
        np.testing.assert_allclose(found.scores[0, 0], score, rtol=2e-4)


def test_n_best_is_sorted_and_distinct_and_fewer_is_its_head():
    model = Recurrent(7, batch_size=5, vocabulary=9)
    many = search(model, 5, 6, 10, length_penalty=0.8)
    few = search(model, 5, 6, 10, length_penalty=0.8, num_hypotheses=2)
    assert (np.diff(many.scores, axis=1) <= 0).all()
    for row in range(5):
        found = rows_of(many, row)
        assert len({tuple(tokens) for tokens in found}) == 6
        assert all(tokens[-1] == EOS and EOS not in tokens[:-1] for tokens in found)
        for place, tokens in enumerate(found):
            log_prob = model.log_prob(row, tokens)
            np.testing.assert_allclose(many.log_probs[row, place], log_prob, rtol=1e-5)
            np.testing.assert_allclose(many.scores[row, place], log_prob / norm(len(tokens), 0.8), rtol=1e-5)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:, :2])


def test_prefix_is_kept_and_the_rest_is_searched():
    model = Recurrent(8, batch_size=3, vocabulary=5)
    prefix = np.array([[4, 2], [3, 0], [0, 0]], np.int32)
    found = search(model, 3, 80, 4, length_penalty=0.6, num_hypotheses=3, prefix=prefix)
    for row, wanted in enumerate(([4, 2], [3], [])):
        expected = [
            tokens for _, _, tokens in all_hypotheses(model, row, 4, 0.6) if tokens[: len(wanted)] == wanted
        ]
        assert rows_of(found, row) == expected[:3]


def test_prefix_that_ends_or_fills_the_output():
    model = Recurrent(9, batch_size=2)
    prefix = np.array([[4, EOS, 0], [4, 3, 2]], np.int32)
    found = search(model, 2, 2, 3, prefix=prefix)
    assert [rows_of(found, row)[0] for row in range(2)] == [[4, EOS], [4, 3, EOS]]
    # Nothing but the forced output exists: the second place stays empty.
    assert found.lengths[:, 1].tolist() == [0, 0]
    assert np.isneginf(found.scores[:, 1]).all()
    assert not np.asarray(found.tokens)[:, 1].any()


def test_suppressed_tokens_never_appear():
    model = Recurrent(10, batch_size=4)
    free = search(model, 4, 3, 8)
    found = search(model, 4, 3, 8, suppress=(BOS, 3))
    assert (np.asarray(free.tokens) == 3).any()
    for row in range(4):
        assert all(not {BOS, 3} & set(tokens) for tokens in rows_of(found, row))


def test_rows_do_not_influence_each_other():
    model = Recurrent(11, batch_size=6, eos_bias=-1.0)
    limits = np.array([2, 12, 5, 12, 3, 9], np.int32)
    start = model.start
    together = search(model, 6, 3, 12, max_lengths=limits, length_penalty=1.0)
    for row in range(6):
        alone = search(model, 1, 3, 12, rows=slice(row, row + 1), max_lengths=limits[row : row + 1], length_penalty=1.0)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        # Other neighbours in a batch of the same shape: not a bit changes.
        model.start = np.where(np.arange(6)[:, None] == row, start, start[::-1] + 1)
        among_others = search(model, 6, 3, 12, max_lengths=np.where(np.arange(6) == row, limits, 7), length_penalty=1.0)
        model.start = start
        jax.tree.map(lambda a, b, row=row: np.testing.assert_array_equal(a[row], b[row]), together, among_others)


def test_ties_go_to_the_lower_token():
    uniform = lambda tokens, index, cache: (jnp.zeros((*tokens.shape, 6)), cache)  # noqa: E731
    found = beam_search(uniform, {}, batch_size=1, beam_size=3, max_length=3, **IDS)
    assert rows_of(found, 0)[0] == [EOS]
    again = beam_search(uniform, {}, batch_size=1, beam_size=3, max_length=3, suppress=(0,), prefix=[[0, 0]], **IDS)
    assert rows_of(again, 0)[0] == [EOS]
    forced = beam_search(uniform, {}, batch_size=1, beam_size=2, max_length=3, prefix=[[2, 4]], **IDS)
    assert rows_of(forced, 0)[0] == [2, 4, EOS]


def test_one_compilation_serves_other_parameters_limits_and_prefixes():
    model = Recurrent(12, batch_size=2)

    @jax.jit
    def run(cache, prefix, limits):
        return beam_search(
            model.step, cache, batch_size=2, beam_size=2, max_length=6, prefix=prefix, max_lengths=limits, **IDS
        )

    for seed in range(3):
        rng = np.random.default_rng(seed)
        run(
            {"state": rng.normal(size=(2, 2, 6)).astype(np.float32)},
            rng.integers(0, 5, size=(2, 3), dtype=np.int32),
            rng.integers(1, 7, size=2, dtype=np.int32),
        )
    assert run._cache_size() == 1


def test_bad_settings_are_refused():
    model = Recurrent(0, batch_size=1)
    with pytest.raises(ValueError, match="batch_size must be 1 or greater, got 0"):
        search(model, 0, 2, 4, slice(0))
    with pytest.raises(ValueError, match="num_hypotheses must be between 1 and beam_size=2, got 3"):
        search(model, 1, 2, 4, num_hypotheses=3)
    with pytest.raises(ValueError, match="length_penalty must be 0 or greater, got -1"):
        search(model, 1, 2, 4, length_penalty=-1.0)
    with pytest.raises(ValueError, match="length_penalty must be 0 or greater, got nan"):
        length_norm(4, float("nan"))
    with pytest.raises(ValueError, match="length_penalty=1000 is too large: long outputs, of up to 4 tokens, would"):
        length_norm(4, 1000)
