"""The plain implementation, which is also compared with torch's."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxformer.ops import attention
from tests.ops.attention.base import AttentionTests
from tests.ops.attention.oracle import MASKS, assert_close, exact, make_mask, random_inputs


class TestXla(AttentionTests):
    implementation = "xla"

    @pytest.mark.parametrize("name", MASKS)
    def test_values_and_gradients_agree_with_torch(self, name):
        torch = pytest.importorskip("torch", reason="torch is the benchmark extra")
        q, k, v, do = self.inputs()
        mask, allowed = make_mask(name, 2, 5, 7)
        rows = torch.tensor(allowed.any(-1))[:, :, None, None]  # torch gives nan where nothing is seen
        tensors = [torch.tensor(np.asarray(x), requires_grad=True) for x in (q, k, v)]
        visible = torch.tensor(np.where(allowed.any(-1, keepdims=True), allowed, True))[:, None]
        expected = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in tensors), attn_mask=visible
        ).transpose(1, 2)
        (expected * rows * torch.tensor(np.asarray(do))).sum().backward()
        out, *gradients = self.with_gradients(mask=mask)(q, k, v, do)
        np.testing.assert_allclose(out, (expected * rows).detach(), atol=1e-5)
        for ours, theirs in zip(gradients, tensors, strict=True):
            np.testing.assert_allclose(ours, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("implementation", [None, "xla", "xla_chunked"])
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float32")])
def test_of_mixed_dtypes_each_result_has_that_of_what_it_belongs_to(dtypes, implementation):
    q, k, v, do = random_inputs()
    q, do, k, v = q.astype(dtypes[0]), do.astype(dtypes[0]), k.astype(dtypes[1]), v.astype(dtypes[1])
    out, pullback = jax.vjp(lambda q, k, v: attention(q, k, v, implementation=implementation), q, k, v)
    ours = out, *pullback(do)
    assert [x.dtype for x in ours] == [x.dtype for x in (q, q, k, v)]
    assert_close(ours, exact(q, k, v, np.ones((2, 5, 7), bool), do), "bfloat16")
