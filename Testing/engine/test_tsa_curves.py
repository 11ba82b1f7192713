"""The curves of TSA show the table that the loss was made of, whatever part of it an option leaves out."""

from __future__ import annotations

import pytest
import torch
from training_cases import MemoryCases, make_batches, make_method, steps

from semiseg.methods import tsa_term


@pytest.mark.parametrize(
    "options",
    [{}, {"shift": False}, {"sign": -1}, {"covariance": "none"}, {"covariance": "diagonal"}, {"sign": -1, "covariance": "none"}],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()) or "all of it",
)
def test_the_curves_are_of_the_table_that_was_used(options, monkeypatch):
    tables = []

    def spy(logits, labels, table, valid):
        tables.append(table.detach().clone())
        return loss(logits, labels, table, valid)

    loss = tsa_term.tsa_loss
    monkeypatch.setattr(tsa_term, "tsa_loss", spy)
    method = make_method("transmedseg", labels_from="patches", tsa_weight=0.4, alpha=20.0, warmup=0.0, statistics_every=1, **options)
    steps(method, make_batches(MemoryCases()), 3)
    shown = method.diagnostics()
    found = torch.tensor([shown["tsa_table_0_1"], shown["tsa_table_1_0"]])
    assert found.abs().max() > 0
    torch.testing.assert_close(found, torch.stack([tables[-1][0, 1], tables[-1][1, 0]]))
