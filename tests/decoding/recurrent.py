"""A tiny recurrent step function, and oracles in plain float64 numpy that share no code with the library.

Its cache must be reordered correctly for its results to be right, and every prefix has another distribution.
"""

import itertools

import jax.numpy as jnp
import numpy as np

BOS, EOS = 0, 1


class Recurrent:
    """state' = tanh(state A + E[token]); logits = scale * state' C + bias; every row starts elsewhere."""

    def __init__(self, seed, batch_size, vocabulary=5, width=6, scale=3.0, eos_bias=0.0):
        rng = np.random.default_rng(seed)
        self.a = rng.normal(size=(width, width)).astype(np.float32)
        self.e = rng.normal(size=(vocabulary, width)).astype(np.float32)
        self.c = (scale * rng.normal(size=(width, vocabulary))).astype(np.float32)
        self.bias = np.zeros(vocabulary, np.float32)
        self.bias[EOS] = eos_bias
        self.start = rng.normal(size=(batch_size, width)).astype(np.float32)
        self.vocabulary = vocabulary

    def cache(self, beam_size, rows=slice(None)):
        start = self.start[rows]
        return {"state": jnp.repeat(jnp.asarray(start)[:, None], beam_size, axis=1)}

    @property
    def weights(self):
        return self.a, self.e, self.c, self.bias

    @property
    def step(self):
        return recurrent_step(self.weights)

    def log_softmax_after(self, row, prefix):
        """float64 [V]: log-probabilities of the token after `prefix`."""
        state = self.start[row].astype(np.float64)
        for token in [BOS, *prefix]:
            state = np.tanh(state @ self.a + self.e[token])
        logits = state @ self.c + self.bias
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def log_prob(self, row, tokens):
        return sum(self.log_softmax_after(row, tokens[:i])[token] for i, token in enumerate(tokens))


def recurrent_step(weights):
    a, e, c, bias = map(jnp.asarray, weights)

    def step(tokens, index, cache):
        state = jnp.tanh(cache["state"] @ a + e[tokens])
        return state @ c + bias, {"state": state}

    return step


def norm(length, alpha):
    return ((5 + length) / 6) ** alpha


def all_hypotheses(model, row, max_length, alpha):
    """Every complete sequence with its log-probability and score, best first."""
    others = [token for token in range(model.vocabulary) if token != EOS]
    found = []
    for length in range(max_length):
        for body in itertools.product(others, repeat=length):
            tokens = [*body, EOS]
            log_prob = model.log_prob(row, tokens)
            found.append((log_prob / norm(len(tokens), alpha), log_prob, tokens))
    return sorted(found, key=lambda entry: -entry[0])


def plain_beam(model, row, beam_size, max_length, alpha):
    """Beam search with lists, run to the end: the W most probable extensions that end, the W that do not."""
    live, pool = [(0.0, [])], []
    for position in range(max_length):
        extensions = []
        for log_prob, tokens in live:
            after = model.log_softmax_after(row, tokens)
            allowed = range(model.vocabulary) if position < max_length - 1 else [EOS]
            extensions += [(log_prob + after[token], [*tokens, token]) for token in allowed]
        extensions.sort(key=lambda entry: -entry[0])
        pool += [
            (log_prob / norm(len(tokens), alpha), log_prob, tokens)
            for log_prob, tokens in extensions[:beam_size]
            if tokens[-1] == EOS
        ]
        live = [entry for entry in extensions if entry[1][-1] != EOS][:beam_size]
    return sorted(pool, key=lambda entry: -entry[0])[:beam_size]


def rows_of(hypotheses, row):
    """The hypotheses of one row as lists."""
    return [
        np.asarray(tokens)[:length].tolist()
        for tokens, length in zip(hypotheses.tokens[row], np.asarray(hypotheses.lengths[row]), strict=True)
    ]
