"""The plain implementation, which is also compared with torch's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.attention.base import AttentionTests
from tests.ops.attention.oracle import MASKS, make_mask


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
