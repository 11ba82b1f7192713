"""TSA on top of other methods and other networks: it learns, it watches, and switched off it leaves the host alone."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from training_cases import CPU, MemoryCases, last_stage, make_batches, make_method, steps

from semiseg.errors import InputError
from semiseg.inference.deploy import deploy
from semiseg.methods import METHODS, load_method
from semiseg.methods.base import Task
from semiseg.networks import build_network
from semiseg.train_job import TrainJob, resolve

HOSTS = ("mean_teacher", "bcp", "graphcl")
FEW = [4, 4, 4, 4, 4]
SMALL = {"width": 2, "depth": 3, "norm": "instance", "dropout": 0.0}
UNETR = {"downscale": 16, "arguments": {"img_size": [32, 32, 32], "feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}}


@pytest.fixture(scope="module")
def batches():
    return make_batches(MemoryCases())


@pytest.fixture
def monai():
    return pytest.importorskip("monai", reason="needs the optional extra monai", exc_type=ImportError)


def on_unet(host, **options):
    method = load_method(host)
    torch.manual_seed(0)
    return method(Task(2, "unet3d", SMALL), method.Options(**options))


def losses_of(method, batches, iteration=0):
    return method.train()(batches.batch(iteration), last_stage(method, iteration=iteration))


def course_of(method, batches, count):
    torch.manual_seed(7)  # the cluster head of GraphCL drops out
    return steps(method, batches, count)


def check_term(method, batches):
    """TSA's loss reaches all of the student that the logits depend on, and its statistics see both kinds of voxels."""
    losses = losses_of(method, batches)
    losses["tsa"].backward()
    student = method.student if hasattr(method, "student") else method.core.student
    reached = [parameter for parameter in student.parameters() if parameter.grad is not None and parameter.grad.abs().max() > 0]
    assert len(reached) > 0.5 * len(list(student.parameters())) and student.head.weight.grad.abs().max() > 0
    for moments in (method.tsa.source, method.tsa.target):
        assert int(moments.num_calls) == 1 and moments.voxel_count.sum() > 0
        assert moments.seen.any() and moments.covariance.abs().max() > 0
    assert {"tsa_alpha", "tsa_shift_norm_0"} <= set(method.diagnostics())


@pytest.mark.parametrize("statistics", ["same_net", "teacher"])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("make", [make_method, on_unet], ids=["vnet", "unet3d"])
def test_the_term_reaches_the_student_and_its_statistics_move(make, host, statistics, batches):
    check_term(make(host, tsa_weight=0.4, statistics=statistics), batches)


@pytest.mark.parametrize("host", HOSTS)
def test_the_hosts_own_terms_stay_what_they_are(host, batches):
    with_tsa, without = (losses_of(make_method(host, tsa_weight=weight), batches) for weight in (0.4, 0.0))
    assert set(with_tsa) == {*without, "tsa"}
    for name in set(without) - {"total"}:
        torch.testing.assert_close(with_tsa[name], without[name])
    torch.testing.assert_close(with_tsa["total"], without["total"] + with_tsa["tsa"])


@pytest.mark.parametrize("host", HOSTS)
def test_weight_zero_is_the_method_without(host, batches):
    off, plain = make_method(host, tsa_weight=0.0), make_method(host)
    assert off.tsa is None and set(off.state_dict()) == set(plain.state_dict())
    assert course_of(off, batches, 3) == course_of(plain, batches, 3)


def test_graphcl_with_tsa_is_transmedseg(batches):
    ours, plugged = make_method("transmedseg"), make_method("graphcl", tsa_weight=0.4)
    assert course_of(plugged, batches, 4) == course_of(ours, batches, 4)


def test_methods_that_build_on_a_host_do_not_offer_what_they_would_ignore():
    assert not hasattr(load_method("ua_mt").Options(), "tsa_weight")
    assert not hasattr(load_method("supervised").Options(), "tsa_weight")


@pytest.mark.parametrize("host", HOSTS)
def test_several_classes_work(host):
    batches = make_batches(MemoryCases(num_classes=4))
    assert all(loss["tsa"] > 0 for loss in steps(make_method(host, num_classes=4, tsa_weight=0.4), batches, 2))


# the job


def job(method, **changes):
    return TrainJob(method=method, network="vnet", tsa=True, training={"patch_size": [16, 16, 16], "iterations": 20}, **changes)


@pytest.mark.parametrize("host", [*HOSTS, "transmedseg"])
def test_the_job_switches_it_on(host):
    assert resolve(job(host), CPU).method_options.tsa_weight == 0.4
    assert resolve(job(host, method_options={"tsa_weight": 0.1}), CPU).method_options.tsa_weight == 0.1


def test_a_resolved_job_resolves_to_itself():
    resolved = resolve(job("bcp"), CPU).job
    assert resolve(resolved, CPU).job == resolved


@pytest.mark.parametrize("method", sorted(set(METHODS) - {*HOSTS, "transmedseg"}))
def test_a_method_that_cannot_take_it_says_which_can(method):
    with pytest.raises(InputError, match=f"on top of the method {method}") as raised:
        resolve(job(method), CPU)
    assert "bcp" in raised.value.hint and "supervised" not in raised.value.hint


# networks of MONAI


def test_without_monai_its_networks_say_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(InputError, match="needs MONAI") as raised:
        build_network("monai:SwinUNETR", 1, 2)
    assert "pip install" in raised.value.hint


@pytest.mark.filterwarnings("ignore")
class TestMonai:
    """Warnings of MONAI's own are not ours to mend."""

    def method(self, host, **options):
        method = load_method(host)
        torch.manual_seed(0)
        return method(Task(2, "monai:UNETR", UNETR), method.Options(**options))

    @pytest.fixture
    def batches(self):
        return make_batches(MemoryCases(shape=(33, 34, 36)), (32, 32, 32))

    @pytest.mark.parametrize("host", [*HOSTS, "transmedseg"])
    def test_tsa_learns_on_a_transformer(self, monai, host, batches):
        method = self.method(host, tsa_weight=0.4)
        check_term(method, batches)
        assert all(loss["tsa"] > 0 for loss in steps(method, batches, 2))

    def test_head_and_bottleneck_are_found(self, monai):
        network = build_network("monai:UNETR", 1, 3, UNETR).eval()
        logits, features = network(torch.randn(2, 1, 32, 32, 32))
        assert logits.shape == (2, 3, 32, 32, 32) and network.head.out_channels == 3
        torch.testing.assert_close(network.head(features["head_input"]), logits)
        assert features["bottleneck"].shape == (2, network.bottleneck_channels, 2, 2, 2)

    def test_copies_keep_to_themselves_and_weights_load_by_name(self, monai):
        network = build_network("monai:UNETR", 1, 2, UNETR).eval()
        image = torch.randn(1, 1, 32, 32, 32)
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.head.weight.zero_()
            expected = network(image).logits
            assert other(image).logits[:, 0].std() < 1e-6 < expected[:, 0].std()
            torch.testing.assert_close(deploy(network)(image).logits, expected, rtol=1e-4, atol=1e-5)
            fresh = build_network("monai:UNETR", 1, 2, UNETR).eval()
            fresh.load_state_dict(network.state_dict())
            torch.testing.assert_close(fresh(image).logits, expected)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())

    def test_the_bottleneck_graph_starts_as_nothing(self, monai):
        torch.manual_seed(1)
        plain = build_network("monai:SegResNet", 1, 2, {"downscale": 8}).eval()
        graph = build_network("monai:SegResNet", 1, 2, {"downscale": 8, "bottleneck_graph": True}).eval()
        graph.network.load_state_dict(plain.network.state_dict())
        image = torch.randn(1, 1, 16, 16, 16)
        torch.testing.assert_close(graph(image).logits, plain(image).logits)
        with torch.no_grad():
            graph.graph.gamma.fill_(1.0)
        assert not torch.allclose(graph(image).logits, plain(image).logits)

    def test_the_classifier_computes_in_fp32_under_autocast(self, monai):
        network = build_network("monai:UNETR", 1, 2, UNETR)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert network(torch.randn(1, 1, 32, 32, 32)).logits.dtype == torch.float32

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("Nothing", {}, "no network named 'Nothing'"),
            ("UNETR", {}, "cannot be built.*img_size"),
            ("UNETR", {"arguments": {"img_size": 32, "wings": 2}}, "cannot be built.*wings"),
            ("UNet", {"downscale": 8, "arguments": {"channels": [4, 8], "strides": [2]}}, "does not end in a plain convolution"),
            ("SwinUNETR", {"downscale": 5, "arguments": {"feature_size": 12, "depths": [1, 1, 1, 1]}}, "does not take an image"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_words(self, monai, name, options, words):
        with pytest.raises(InputError, match=words):
            build_network(f"monai:{name}", 1, 2, options)

    @pytest.mark.parametrize(("name", "arguments", "words"), [
        ("DynUNet", {"deep_supervision": True, "filters": FEW}, '"deep_supervision": false'),
        ("SegResNetDS", {"dsdepth": 2, "init_filters": 8}, '"dsdepth": 1'),
        ("BasicUNetPlusPlus", {"features": [4] * 6}, "Choose a network"),
    ])  # fmt: skip
    def test_several_maps_in_training_are_refused_with_what_to_set(self, monai, name, arguments, words):
        """Deep supervision: one map when the network segments, several when it learns."""
        with pytest.raises(InputError, match="something else than one map") as raised:
            build_network(f"monai:{name}", 1, 2, {"downscale": 16, "arguments": arguments})
        assert words in raised.value.hint

    def test_the_look_at_a_network_changes_nothing(self, monai):
        """Neither its state nor what is drawn next, though it is looked at as it trains: with batch normalization and dropout."""
        arguments = {**UNETR["arguments"], "dropout_rate": 0.5, "norm_name": "batch"}
        torch.manual_seed(3)
        network, drawn = build_network("monai:UNETR", 1, 2, {**UNETR, "arguments": arguments}), torch.rand(3)
        torch.manual_seed(3)
        alone = monai.networks.nets.UNETR(in_channels=1, out_channels=2, **arguments)
        torch.testing.assert_close(torch.rand(3), drawn, rtol=0, atol=0)
        assert network.network.training
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(network.network.state_dict()[key], value, rtol=0, atol=0)
