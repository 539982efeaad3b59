"""What every implementation of attention must do: values and gradients, and what it must never do."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.dropout import head_seeds, keep_mask
from tests.ops.attention.oracle import MASKS, assert_close, exact, make_mask, random_inputs

LENGTHS = (1, 17, 63, 64, 65, 128, 192, 704)

# T, S, mask, dtype, query heads, key/value heads: each length, mask, dtype and grouping once or more.
SHORT_MATRIX = (
    (1, 17, "none", "float32", 2, 2),
    (17, 1, "lengths", "float32", 2, 1),
    (63, 65, "segments", "bfloat16", 2, 2),
    (64, 64, "causal+segments", "float32", 4, 2),
    (65, 63, "causal", "float16", 2, 1),
    (128, 192, "window", "float32", 2, 2),
    (192, 128, "lengths", "bfloat16", 4, 2),
    (704, 64, "segments", "float32", 1, 1),
)
FULL_MATRIX = tuple(
    (queries, keys, mask, dtype, 2, kv_heads)
    for length, other in zip(LENGTHS, LENGTHS[1:] + LENGTHS[:1], strict=True)
    for queries, keys in ((length, length), (length, other), (other, length))
    for mask, dtype, kv_heads in itertools.product(MASKS, ("float32", "float16", "bfloat16"), (2, 1))
)


class AttentionTests:
    """Inherited by a class for each implementation, which names it and says what it takes."""

    implementation: str
    size = 8  # of a head
    may_refuse = False  # a refusal then skips a test; the tests of the refusals are the subclass's own

    def call(self, q, k, v, **kwargs):
        """The implementation under test, and no other; float32 means float32 here, also on a GPU."""
        try:
            with jax.default_matmul_precision("highest"):
                return attention(q, k, v, implementation=self.implementation, **kwargs)
        except NotImplementedError as refusal:
            if not self.may_refuse:
                raise
            pytest.skip(str(refusal))

    def compiled(self, **kwargs):
        """A function of q, k and v, compiled once."""
        return jax.jit(functools.partial(self.call, **kwargs))

    def with_gradients(self, **kwargs):
        """A function of q, k, v and the gradient of the output: output and gradients, compiled once."""

        @jax.jit
        def run(q, k, v, do):
            out, pullback = jax.vjp(functools.partial(self.call, **kwargs), q, k, v)
            return out, *pullback(do)

        return run

    def inputs(self, **kwargs):
        return random_inputs(**{"size": self.size, **kwargs})

    def check(self, queries, keys, mask_name, dtype, heads, kv_heads):
        q, k, v, do = self.inputs(queries=queries, keys=keys, heads=heads, kv_heads=kv_heads, dtype=dtype)
        mask, allowed = make_mask(mask_name, q.shape[0], queries, keys)
        ours = self.with_gradients(mask=mask)(q, k, v, do)
        assert all(x.dtype == q.dtype for x in ours)
        assert_close(ours, exact(q, k, v, allowed, do), dtype)
        np.testing.assert_array_equal(np.asarray(ours[0])[~allowed.any(-1)], 0)
        np.testing.assert_array_equal(np.asarray(ours[1])[~allowed.any(-1)], 0)

    @pytest.mark.parametrize("case", SHORT_MATRIX, ids=lambda case: "-".join(map(str, case)))
    def test_lengths_masks_and_dtypes(self, case):
        self.check(*case)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("case", FULL_MATRIX, ids=lambda case: "-".join(map(str, case)))
    def test_all_lengths_masks_and_dtypes(self, case):
        self.check(*case)

    @pytest.mark.parametrize(("name", "kv_heads"), list(zip(MASKS, (4, 2, 1) * 3, strict=False)))
    def test_agrees_with_the_formula_in_float64(self, name, kv_heads):
        self.check(5, 7, name, "float32", 4, kv_heads)

    def test_two_keys_by_hand(self):
        first = jnp.eye(2, self.size)  # the unit vectors along the first two axes
        q, k, v = 2.0 * first[None, :1, None], first[None, :, None], 10.0 * first[None, :, None]
        share = 1 / (1 + np.exp(-2 / np.sqrt(2)))  # scores 2 / sqrt(2) and 0
        out = self.compiled(scale=2**-0.5)(q, k, v)[0, 0, 0]
        np.testing.assert_allclose(out[:2], [10 * share, 10 * (1 - share)], rtol=1e-6)
        np.testing.assert_allclose(self.compiled(scale=0.0)(q, k, v)[0, 0, 0, :2], [5.0, 5.0], rtol=1e-6)

    @pytest.mark.parametrize("name", ["causal", "window", "lengths", "segments"])
    def test_hidden_keys_change_nothing_even_when_poisoned(self, name):
        q, k, v, do = self.inputs(queries=20, keys=37, heads=2, kv_heads=2)
        mask, allowed = make_mask(name, 2, 20, 37)
        hidden = ~allowed.any(axis=1)  # keys that no query sees
        assert hidden.any()
        run = self.with_gradients(mask=mask)
        before = run(q, k, v, do)
        poison = jnp.where(hidden[:, :, None, None], 1e30, 0.0)
        after = run(q, k + poison, v + poison, do)
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
        for gradient in before[2:]:
            np.testing.assert_array_equal(np.asarray(gradient)[hidden], 0.0)

    def test_each_query_depends_on_its_visible_keys_alone(self):
        q, k, v, _ = self.inputs(queries=6, keys=6)
        run = self.compiled(mask=Mask(causal=True))
        before = run(q, k, v)
        after = run(q, k.at[:, 3].add(5.0), v.at[:, 3].add(5.0))
        np.testing.assert_array_equal(before[:, :3], after[:, :3])
        assert (jnp.abs(before[:, 3:] - after[:, 3:]).max(axis=(0, 2, 3)) > 1e-3).all()

    def test_a_query_that_sees_nothing_gets_zeros_and_no_gradient(self):
        q, k, v, do = self.inputs()
        results = self.with_gradients(mask=Mask(key_lengths=jnp.array([0, 7])))(q, k, v, do)
        for x in results:
            assert jnp.isfinite(x).all()
            np.testing.assert_array_equal(x[0], 0.0)
            assert (x[1] != 0.0).any()

    def test_twice_the_same(self):
        q, k, v, do = self.inputs(queries=40, keys=70, heads=2, kv_heads=1)
        run = self.with_gradients(mask=Mask(causal=True), dropout=0.2, dropout_seed=jnp.uint32(3))
        for a, b in zip(run(q, k, v, do), run(q, k, v, do), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_bfloat16_is_reduced_in_float32(self):
        q, k, v, _ = self.inputs(keys=300, dtype="bfloat16")
        out = self.compiled()(q, k, v)
        assert out.dtype == jnp.bfloat16
        assert np.abs(out.astype(jnp.float32) - exact(q, k, v, np.ones((2, 5, 300), bool))).max() < 0.01

    def test_dropout_drops_what_the_mask_of_the_seed_says(self):
        # The mask of [B, N, T, S], whatever the implementation: another one gives the same run.
        q, k, v, do = self.inputs(queries=20, keys=37, heads=4, kv_heads=2)
        mask, allowed = make_mask("causal+segments", 2, 20, 37)
        kept = keep_mask(head_seeds(jnp.uint32(11), 2, 4), (2, 4, 20, 37), 0.3)
        ours = self.with_gradients(mask=mask, dropout=0.3, dropout_seed=jnp.uint32(11))(q, k, v, do)
        assert_close(ours, exact(q, k, v, allowed, do, kept, 0.3), "float32")

    def test_dropout_with_a_constant_seed_drops_the_same_in_both_directions(self):
        q, k, v, do = self.inputs(queries=3, keys=4, heads=2, kv_heads=2)
        kept = keep_mask(head_seeds(jnp.uint32(5), 2, 2), (2, 2, 3, 4), 0.3)
        inner = jax.jit(lambda q, k, v: self.call(q, k, v, dropout=0.3, dropout_seed=jnp.uint32(5)))
        gradients = jax.jit(lambda q, k, v, do: jax.vjp(inner, q, k, v)[1](do))(q, k, v, do)
        theirs = exact(q, k, v, np.ones((2, 3, 4), bool), do, kept, 0.3)[1:]
        for a, b in zip(gradients, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)

    def test_dropout_zeroes_whole_weights_and_keeps_the_mean(self):
        keys = 4000
        q, k, v = jnp.zeros((1, 1, 1, self.size)), jnp.zeros((1, keys, 1, self.size)), jnp.ones((1, keys, 1, self.size))
        out = self.compiled(dropout=0.25, dropout_seed=jnp.uint32(1))(q, k, v)
        assert abs(float(out[0, 0, 0, 0]) - 1.0) < 4 * np.sqrt(0.25 / 0.75 / keys)
        assert float(out[0, 0, 0, 0]) != 1.0
        np.testing.assert_allclose(self.compiled(dropout=0.25)(q, k, v), 1.0, rtol=1e-5)  # no seed: evaluation
