import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decoding import greedy_search, sample
from tests.decoding.recurrent import BOS, EOS, Recurrent, norm, rows_of

IDS = {"bos_id": BOS, "eos_id": EOS}


def plain_greedy(model, row, max_length, suppress=(), prefix=()):
    tokens = []
    while not tokens or tokens[-1] != EOS:
        after = model.log_softmax_after(row, tokens)
        after[list(suppress)] = -np.inf
        if len(tokens) == max_length - 1:
            tokens.append(EOS)
        elif len(tokens) < len(prefix) and prefix[len(tokens)]:
            tokens.append(prefix[len(tokens)])
        else:
            tokens.append(int(np.argmax(after)))
    return tokens


def test_greedy_is_repeated_argmax():
    model = Recurrent(0, batch_size=8, vocabulary=700)  # 700 exercises the blockwise argmax
    found = jax.jit(lambda cache: greedy_search(model.step, cache, batch_size=8, max_length=9, **IDS))(model.cache(1))
    lengths = set()
    for row in range(8):
        expected = plain_greedy(model, row, 9)
        lengths.add(len(expected))
        assert rows_of(found, row) == [expected]
        assert not np.asarray(found.tokens)[row, 0, len(expected) :].any()
        np.testing.assert_allclose(found.log_probs[row, 0], model.log_prob(row, expected), rtol=1e-5, atol=2e-6)


def test_rows_end_at_their_own_time_and_length():
    model = Recurrent(3, batch_size=6, eos_bias=-1.0)
    limits = np.array([1, 2, 3, 7, 12, 99], np.int32)
    found = greedy_search(
        model.step, model.cache(1), batch_size=6, max_length=12, max_lengths=limits, length_penalty=0.6, **IDS
    )
    for row in range(6):
        expected = plain_greedy(model, row, min(limits[row], 12))
        assert rows_of(found, row) == [expected]
        score = model.log_prob(row, expected) / norm(len(expected), 0.6)
        np.testing.assert_allclose(found.scores[row, 0], score, rtol=1e-5, atol=2e-6)
    assert len({len(rows_of(found, row)[0]) for row in range(6)}) > 2


def test_prefix_and_suppressed_tokens():
    model = Recurrent(1, batch_size=3)
    prefix = np.array([[4, 2, 0], [0, 3, 0], [0, 0, 0]], np.int32)
    found = greedy_search(
        model.step, model.cache(1), batch_size=3, max_length=8, prefix=prefix, suppress=(2, 0), **IDS
    )
    for row in range(3):
        expected = plain_greedy(model, row, 8, suppress=(2, 0), prefix=prefix[row])
        assert rows_of(found, row) == [expected]
        np.testing.assert_allclose(found.log_probs[row, 0], model.log_prob(row, expected), rtol=1e-5, atol=2e-6)
    assert rows_of(found, 0)[0][:2] == [4, 2], "a prefix may hold a suppressed token"


def test_samples_follow_the_reshaped_distribution():
    logits = np.log(np.array([0.05, 0.1, 0.35, 0.2, 0.3]))
    step = lambda tokens, index, cache: (jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (*tokens.shape, 5)), cache)  # noqa: E731
    keys = jax.random.split(jax.random.key(5), 40)
    found = sample(
        step, {}, keys=keys, num_samples=1000, max_length=2, temperature=0.5, top_k=4, top_p=0.95, **IDS
    )
    # Squared and cut to four: 0.1225, 0.09, 0.04, 0.01; over 0.2625: 0.467, 0.343, 0.152, 0.038. The first three
    # reach 0.95 (0.962), so the token of probability 0.1 goes as well.
    expected = np.array([0, 0, 0.1225, 0.04, 0.09]) / 0.2525
    first = np.asarray(found.tokens)[..., 0].ravel()
    shares = np.bincount(first, minlength=5) / first.size
    # Four standard deviations of a share of 40,000 draws are at most 0.01.
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert shares[0] == shares[1] == 0


def test_log_probabilities_of_samples_are_the_models_own():
    model = Recurrent(2, batch_size=2)
    found = sample(
        model.step, model.cache(4), keys=jax.random.split(jax.random.key(0), 2), num_samples=4, max_length=6,
        temperature=2.0, length_penalty=1.0, **IDS,
    )
    assert len({tuple(tokens) for row in range(2) for tokens in rows_of(found, row)}) > 2
    for row in range(2):
        assert (np.diff(found.scores[row]) <= 0).all()
        for place, tokens in enumerate(rows_of(found, row)):
            np.testing.assert_allclose(found.log_probs[row, place], model.log_prob(row, tokens), rtol=1e-5, atol=2e-6)
            np.testing.assert_allclose(
                found.scores[row, place], model.log_prob(row, tokens) / norm(len(tokens), 1.0), rtol=1e-5, atol=2e-6
            )


def test_one_token_to_choose_from_is_greedy():
    model = Recurrent(4, batch_size=5)
    greedy = greedy_search(model.step, model.cache(1), batch_size=5, max_length=8, **IDS)
    for reshaping in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-39}, {"temperature": 5e-324}):
        keys = jax.random.split(jax.random.key(0), 5)
        found = sample(model.step, model.cache(1), keys=keys, num_samples=1, max_length=8, **reshaping, **IDS)
        np.testing.assert_array_equal(found.tokens, greedy.tokens)


def test_what_a_row_draws_does_not_depend_on_its_neighbours():
    model = Recurrent(6, batch_size=4, eos_bias=-1.0)
    keys = jax.random.split(jax.random.key(1), 4)
    together = sample(model.step, model.cache(2), keys=keys, num_samples=2, max_length=8, **IDS)
    alone = sample(model.step, model.cache(2, slice(2, 3)), keys=keys[2:3], num_samples=2, max_length=8, **IDS)
    np.testing.assert_array_equal(together.tokens[2], alone.tokens[0])


def test_bad_settings_are_refused():
    model = Recurrent(0, batch_size=1)
    for temperature in (0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"temperature must be greater than 0 and finite, got {temperature}"):
            sample(
                model.step, model.cache(1), keys=jax.random.split(jax.random.key(0), 1), num_samples=1, max_length=2,
                temperature=temperature, **IDS,
            )
    with pytest.raises(ValueError, match="batch_size must be 1 or greater, got 0"):
        greedy_search(model.step, model.cache(1, slice(0)), batch_size=0, max_length=2, **IDS)
    with pytest.raises(ValueError, match="max_length must be 1 or greater, got 0"):
        greedy_search(model.step, model.cache(1), batch_size=1, max_length=0, **IDS)
