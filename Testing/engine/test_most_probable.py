"""The most probable class, by comparison where there are two."""

from __future__ import annotations

import pytest
import torch

from semiseg.losses.most_probable import most_probable


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_is_that_of_argmax_also_among_equals(num_classes):
    logits = torch.randn(2, num_classes, 4, 5, 6, generator=torch.Generator().manual_seed(0)).round().requires_grad_()
    found = most_probable(logits)
    assert torch.equal(found, logits.argmax(1)) and found.dtype == torch.int64 and not found.requires_grad
    assert (logits == logits.amax(1, keepdim=True)).sum(1).gt(1).any(), "some are equal"
