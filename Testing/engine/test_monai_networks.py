"""MONAI's networks by name: what the table says of each is so, a name alone is enough for a training, and sizes that cannot fit are refused in words."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import builders
import pytest
import torch

from semiseg.describe import describe
from semiseg.errors import InputError
from semiseg.inference.model_file import read_model
from semiseg.networks import build_network, network_entry
from semiseg.networks.monai_table import MONAI_NETWORKS, filled
from semiseg.protocol import EVENTS_FILE, MODEL_FILE, ExitCode, Job, read_events, read_job, write_job
from semiseg.study.rehearsal import miniature
from semiseg.train_job import TrainJob, resolve
from semiseg.training.plan import make_plan
from semiseg.worker import run_folder

CPU = torch.device("cpu")
ONE_SIZE = [name for name, entry in MONAI_NETWORKS.items() if entry.has_one_size]
UNETR = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}


@pytest.fixture
def monai():
    return pytest.importorskip("monai", reason="needs the optional extra monai", exc_type=ImportError)


def smallest(name: str) -> list[int]:
    downscale = MONAI_NETWORKS[name].downscale
    return [downscale, 2 * downscale, 2 * downscale]


# The table


@pytest.mark.filterwarnings("ignore")  # warnings of MONAI's own are not ours to mend
@pytest.mark.parametrize("name", MONAI_NETWORKS)
class TestTable:
    def test_it_is_as_the_table_says(self, monai, name):
        """Number of parameters, head and bottleneck, in a pass at the smallest size; built once, because that takes seconds."""
        entry, sides = MONAI_NETWORKS[name], smallest(name)
        network = build_network(f"monai:{name}", 1, 2, {"arguments": {"img_size": sides}} if entry.has_one_size else {})
        more = build_network(f"monai:{name}", 1, 2, {"arguments": {"img_size": [96, 96, 96]}}) if entry.has_one_size else network
        if name != "UNETR" or not monai.__version__.startswith("1.5."):  # there with attention weights that nothing uses
            assert sum(parameter.numel() for parameter in more.parameters()) == entry.parameters
        assert network.downscale == entry.downscale
        logits, features = network.train()(torch.randn(1, 1, *sides))
        assert logits.shape == (1, 2, *sides) and torch.isfinite(logits).all()
        assert isinstance(network.head, torch.nn.Conv3d) and network.head.out_channels == 2
        torch.testing.assert_close(network.head(features["head_input"]), logits)
        assert features["bottleneck"].shape == (1, network.bottleneck_channels, 1, 2, 2), "as coarse as the table says"
        logits.sum().backward()
        assert network.head.weight.grad.abs().max() > 0


def test_the_table_is_read_without_monai():
    assert {"SwinUNETR", "UNETR", "SegResNet"} <= set(MONAI_NETWORKS)
    for name, entry in MONAI_NETWORKS.items():
        assert entry.title and entry.source and entry.parameters > 10_000 and 32 % entry.downscale == 0, name
        assert json.loads(json.dumps(entry.arguments)) == entry.arguments, "a job holds them as JSON"


def test_the_document_lists_what_the_table_lists():
    text = (Path(__file__).parents[2] / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1].removeprefix("monai:"): line for line in text.splitlines() if line.startswith("| `monai:")}
    assert list(rows) == list(MONAI_NETWORKS)
    for name, entry in MONAI_NETWORKS.items():
        assert f"` | {entry.downscale}" in rows[name] and f"| {entry.parameters / 1e6:.1f} million |" in rows[name], name


def test_stated_arguments_join_those_that_a_network_needs():
    needed = MONAI_NETWORKS["AttentionUnet"].arguments
    options = filled("AttentionUnet", {"arguments": {"dropout": 0.1}})
    assert options == {"downscale": 16, "arguments": {**needed, "dropout": 0.1}}
    assert filled("AttentionUnet", {"downscale": 4, "arguments": {"channels": [4, 8, 16], "strides": [2, 2]}}) == {
        "downscale": 4, "arguments": {"channels": [4, 8, 16], "strides": [2, 2]}
    }  # fmt: skip
    assert filled("Other", {"downscale": 4}) == {"downscale": 4}
    assert network_entry("monai:SwinUNETR").title == MONAI_NETWORKS["SwinUNETR"].title


# describe


@pytest.mark.parametrize("missing", [[], ["monai"]])
def test_describe_lists_them_where_monai_is_installed(missing, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else real("json" if name in ("monai", "einops") else name, *rest))
    listed = {network["name"]: network for network in describe()["networks"] if network["name"].startswith("monai:")}
    assert list(listed) == ([] if missing else [f"monai:{name}" for name in MONAI_NETWORKS])
    for name, network in listed.items():
        entry = MONAI_NETWORKS[name.removeprefix("monai:")]
        assert (network["parameters"], network["spatial_dims"], network["is_default"]) == (entry.parameters, 3, False)
        defaults = {option["name"]: option["default"] for option in network["options"]}
        assert defaults == {"arguments": entry.arguments, "downscale": entry.downscale, "bottleneck_graph": False}


def test_one_network_is_the_default():
    assert [network["name"] for network in describe()["networks"] if network["is_default"]] == ["vnet"]
    assert TrainJob().network == ""


# The job


def resolved(network: str, **changes: Any):
    return resolve(TrainJob(network=network, goal="quick", device="cpu", **changes), CPU)


@pytest.mark.parametrize("name", MONAI_NETWORKS)
def test_a_name_alone_is_planned_for(name):
    """On a GPU's patches and on the small ones of a short training on a CPU; of a single voxel at the bottleneck no normalization can be computed."""
    found = resolved(f"monai:{name}")
    downscale = MONAI_NETWORKS[name].downscale
    assert found.network_options["downscale"] == downscale
    assert all(side % downscale == 0 for side in found.options.patch_size) and max(found.options.patch_size) >= 2 * downscale
    assert resolve(found.job, CPU).job == found.job
    if name in ONE_SIZE:
        assert found.network_options["arguments"]["img_size"] == list(found.options.patch_size)


@pytest.mark.parametrize("shape", [(12, 14, 16), (64, 128, 128)])
def test_a_patch_has_more_than_one_voxel_at_the_coarsest_level(shape):
    assert make_plan("quick", CPU, shape, (1.0, 1.0, 1.0), downscale=32).training["patch_size"] == (32, 64, 64)


def test_patch_and_image_size_follow_each_other():
    patch = resolved("monai:UNETR", training={"patch_size": [32, 48, 64]})
    assert patch.network_options["arguments"]["img_size"] == [32, 48, 64]
    size = resolved("monai:UNETR", network_options={"arguments": {"img_size": 64}})
    assert size.options.patch_size == (64, 64, 64) and size.network_options["arguments"]["img_size"] == 64


def test_a_rehearsal_keeps_to_what_a_network_can():
    job = {"network": "monai:SwinUNETR", "training": {"patch_size": [64, 96, 96]}}
    assert miniature(job)["training"]["patch_size"] == [32, 64, 64]
    job = {"network": "monai:UNETR", "network_options": {"arguments": {"img_size": [96, 96, 96]}}, "training": {"patch_size": [96, 96, 96]}}
    assert miniature(job)["training"]["patch_size"] == [96, 96, 96]


def test_arguments_that_are_no_group_are_refused_in_words():
    with pytest.raises(InputError, match="arguments must be a group"):
        resolved("monai:SwinUNETR", network_options={"arguments": 24})


# Training and prediction


@pytest.mark.filterwarnings("ignore")
class TestRun:
    @pytest.fixture(autouse=True)
    def leave_this_process_as_it_is(self, monkeypatch):
        monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)

    def run(self, tmp_path: Path, **changes: Any) -> tuple[Path, ExitCode]:
        cohort, folder = builders.write_cohort(tmp_path / "data", 2, 2, 1, ending=".nrrd"), tmp_path / "run"
        roles = {"labeled": "labeled", "unlabeled": "unlabeled", "held_out": "heldout"}
        options = {role: [str(cohort / name)] for role, name in roles.items()}
        write_job(folder, Job("train", {**options, "method": "bcp", "tsa": True, "goal": "quick", "device": "cpu", "training": {"iterations": 2}, **changes}))
        return folder, run_folder(folder)

    @pytest.mark.slow
    def test_a_name_alone_trains_with_tsa_and_segments(self, monai, tmp_path):
        folder, code = self.run(tmp_path, network="monai:SwinUNETR")
        assert code == ExitCode.FINISHED, read_events(folder / EVENTS_FILE)[0][-1]
        card, _ = read_model(folder / MODEL_FILE)
        assert card["network"]["name"] == "monai:SwinUNETR" and card["network"]["options"]["downscale"] == 32
        assert card["training"]["parameters"] == MONAI_NETWORKS["SwinUNETR"].parameters
        assert len(list((folder / "segmentations").glob("*.seg.nrrd"))) == 1
        assert read_job(folder).options["method_options"]["tsa_weight"] == 0.4

    def test_a_network_of_one_size_gets_that_of_the_patch(self, monai, tmp_path):
        training = {"iterations": 2, "patch_size": [16, 32, 32]}
        folder, code = self.run(tmp_path, network="monai:UNETR", network_options={"arguments": UNETR}, training=training)
        assert code == ExitCode.FINISHED, read_events(folder / EVENTS_FILE)[0][-1]
        assert read_model(folder / MODEL_FILE)[0]["network"]["options"]["arguments"]["img_size"] == [16, 32, 32]
        assert len(list((folder / "segmentations").glob("*.seg.nrrd"))) == 1

    def test_another_size_than_the_patch_is_refused_in_words(self, monai, tmp_path):
        arguments = {**UNETR, "img_size": [32, 32, 32]}
        folder, code = self.run(tmp_path, network="monai:UNETR", network_options={"arguments": arguments}, training={"patch_size": [16, 32, 32]})
        assert code == ExitCode.REFUSED
        last = read_events(folder / EVENTS_FILE)[0][-1]
        assert "built for images of (32, 32, 32)" in last["message"] and "img_size" in last["hint"]
