"""Transferable semantic augmentation in a project that knows nothing of this one: two copied files, and the lines of the document as they stand there."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
LOSSES = REPOSITORY / "TransMedSeg" / "semiseg" / "losses"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The two files in a package of another name."""
    package = tmp_path / "another_project"
    package.mkdir()
    for name in ("tsa.py", "class_moments.py"):
        shutil.copy(LOSSES / name, package)
        assert "semiseg" not in (package / name).read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("another_project.tsa")


def lines_of_the_document() -> str:
    text = (REPOSITORY / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "ClassMoments(" in block]
    return block


def test_the_lines_of_the_document_work_in_any_project(copied):
    torch.manual_seed(0)
    num_classes, num_features, alpha = 3, 4, 0.25
    head = torch.nn.Conv3d(num_features, num_classes, 1)
    features_labeled, features_unlabeled = torch.randn(2, 2, num_features, 6, 6, 6)
    labels, pseudo_labels = torch.randint(num_classes, (2, 2, 6, 6, 6))
    names = {
        **vars(copied), "num_classes": num_classes, "num_features": num_features, "alpha": alpha, "head": head, "labels": labels,
        "features_labeled": features_labeled, "features_unlabeled": features_unlabeled, "pseudo_labels": pseudo_labels,
        "keep": torch.ones_like(pseudo_labels, dtype=torch.bool), "logits_labeled": head(features_labeled), "loss": torch.zeros(()),
    }  # fmt: skip
    exec(lines_of_the_document(), names)  # noqa: S102 - our own document
    plain = torch.nn.functional.cross_entropy(names["logits_labeled"], labels)
    assert names["loss"].item() > 0.4 * plain.item(), "augmentation with a covariance makes the loss larger"
    names["loss"].backward()
    assert head.weight.grad.abs().sum() > 0
    assert names["target"].covariance.shape == (num_classes, num_features, num_features)


def test_its_names_and_defaults_are_those_that_were_promised(copied):
    def parameters(of):
        return {name: one.default for name, one in inspect.signature(of).parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD}

    none = inspect.Parameter.empty
    moments = parameters(copied.ClassMoments)
    assert list(moments)[:4] == ["num_classes", "num_features", "momentum", "min_count"] and (moments["momentum"], moments["min_count"]) == (0.99, 64)
    assert list(parameters(copied.ClassMoments.update)) == ["self", "features_NA", "labels_N", "valid_N"]
    assert parameters(copied.pair_table) == {
        "weight_CA": none, "mean_source_CA": none, "mean_target_CA": none, "covariance_target_CAA": none, "alpha": none, "shrinkage": 0.1, "clamp": 5.0,
    }  # fmt: skip
    assert list(parameters(copied.tsa_loss))[:3] == ["logits_NC", "labels_N", "table_CC"]
    assert list(parameters(copied.head_weight)) == ["conv"]
