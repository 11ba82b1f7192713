"""The networks by name: sizes of the papers, shapes, normalizations, and what the methods rely on."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semiseg.errors import InputError
from semiseg.networks import NETWORKS, build_network
from semiseg.networks.normalization import NORMS, InstanceNorm, make_norm
from semiseg.networks.residual import ResidualBlock

SMALL = {"width": 2, "depth": 3}
CHOOSABLE = [name for name, entry in NETWORKS.items() if not entry.by_method_only]


def has(name, option):
    return option in {entry.name for entry in fields(NETWORKS[name].options)}


def small(name, classes=3, **options):
    wanted = {**SMALL, **options}
    return build_network(name, 1, classes, {key: value for key, value in wanted.items() if has(name, key)})


def image(name, batch=2, side=16):
    return torch.randn(batch, 1, *[side] * NETWORKS[name].spatial_dims)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_vnet_has_the_published_number_of_parameters():
    assert count(build_network("vnet", 1, 2)) == 9_448_866


def test_unet_has_the_published_number_of_parameters():
    assert count(build_network("unet2d", 1, 4)) == 1_813_764


@pytest.mark.parametrize("norm", ("batch", "instance"))
def test_the_kind_of_normalization_does_not_change_the_number_of_parameters(norm):
    assert count(build_network("vnet", 1, 2, {"norm": norm})) == 9_448_866
    assert count(build_network("unet2d", 1, 4, {"norm": norm})) == 1_813_764


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name in CHOOSABLE for norm in (NORMS if has(name, "norm") else NORMS[:1])])
def test_shapes_and_features(name, norm):
    network = small(name, norm=norm)
    x = image(name)
    logits, features = network(x)
    space = x.shape[2:]
    assert logits.shape == (2, 3, *space) and logits.dtype == torch.float32
    assert network.downscale == 4 and network.spatial_dims == len(space)
    assert {"bottleneck", "head_input", "decoder_1", "decoder_2"} <= set(features)
    assert features["bottleneck"].shape[2:] == torch.Size(side // network.downscale for side in space)
    assert features["head_input"].shape[:2] == (2, network.head.in_channels)
    assert features["head_input"].shape[2:] == space
    sides = [features[f"decoder_{level}"].shape[-1] for level in (1, 2)]
    assert sides == [8, 16], "decoder_1 is the coarsest"


@pytest.mark.parametrize("name", CHOOSABLE)
def test_the_head_turns_its_input_into_the_logits(name):
    """TSA moves features and lets the head's weights say what that does to the logits."""
    network = small(name).eval()
    logits, features = network(image(name))
    torch.testing.assert_close(network.head(features["head_input"]), logits)


@pytest.mark.parametrize("name", CHOOSABLE)
def test_every_parameter_learns(name):
    network = small(name, norm="batch")
    network(image(name)).logits.square().mean().backward()
    without = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", CHOOSABLE)
@pytest.mark.parametrize("depth", (3, 4))
def test_sides_that_divide_by_downscale_fit(name, depth):
    network = small(name, depth=depth).eval()
    side = network.downscale * 2
    assert side == 2**depth
    x = torch.randn(1, 1, *[side, side * 2, side][: network.spatial_dims])
    assert network(x).logits.shape[2:] == x.shape[2:]


@pytest.mark.parametrize("name", CHOOSABLE)
def test_dropout_is_for_training_only(name):
    network = small(name, norm="none", dropout=0.5)
    x = image(name)
    network.train()
    assert not torch.equal(network(x).logits, network(x).logits)
    network.eval()
    assert torch.equal(network(x).logits, network(x).logits)
    still = small(name, norm="none", dropout=0.0).train()
    assert torch.equal(still(x).logits, still(x).logits)


@pytest.mark.parametrize("name", ("vnet", "resvnet"))
@pytest.mark.parametrize("place", ("bottleneck", "head_input"))
def test_whole_channels_drop_out_after_the_bottleneck_and_before_the_classifier(name, place):
    network, given = small(name, width=4, dropout=0.5).train(), []
    after = network.up[0] if place == "bottleneck" else network.head
    after.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    channels = network(image(name, batch=8)).features[place].flatten(2)
    alive = channels.abs().amax(2) > 0
    dropped = given[0].flatten(2).abs().amax(2) == 0
    assert 0.25 < dropped[alive].float().mean() < 0.75
    torch.testing.assert_close(given[0].flatten(2), torch.where(dropped[..., None], 0.0, 2 * channels))


def test_the_unet_drops_out_more_the_deeper_its_encoder_and_nothing_in_its_decoder():
    rates = [module.p for module in build_network("unet2d", 1, 4).modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.05, 0.1, 0.2, 0.3, 0.5, 0, 0, 0, 0]


@pytest.mark.parametrize("name", CHOOSABLE)
def test_with_instance_normalization_a_sample_does_not_see_the_others(name):
    options = {"norm": "instance"}
    network = small(name, **options).eval()
    x = image(name)
    torch.testing.assert_close(network(x).logits[:1], network(x[:1]).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CHOOSABLE if has(name, "bottleneck_graph")])
def test_the_bottleneck_graph_leaves_a_fresh_network_as_it_is(name):
    torch.manual_seed(3)
    plain = small(name).eval()
    torch.manual_seed(3)
    graph = small(name, bottleneck_graph=True).eval()
    x = image(name)
    torch.testing.assert_close(graph(x).logits, plain(x).logits)
    with torch.no_grad():
        graph.graph.gamma.fill_(1.0)
    assert not torch.allclose(graph(x).logits, plain(x).logits)
    torch.testing.assert_close(graph(x).logits[:1], graph(x[:1]).logits, rtol=1e-4, atol=1e-5)  # nodes of one sample


def test_coarse_stem_skips_the_finest_convolutions_and_keeps_the_output_size():
    fine, coarse = small("vnet"), small("vnet", coarse_stem=True)
    x = image("vnet")
    assert coarse(x).logits.shape == fine(x).logits.shape
    assert coarse(x).features["head_input"].shape == fine(x).features["head_input"].shape
    assert len(coarse.encoder) == len(fine.encoder) - 1 and len(coarse.decoder) == len(fine.decoder) - 1
    finest = [m for m in coarse.modules() if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3) and m.in_channels == 2]
    assert finest == []


def test_the_classifier_computes_in_fp32_under_autocast():
    network = small("vnet", norm="instance")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = network(image("vnet"))
    assert logits.dtype == torch.float32
    assert features["bottleneck"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vnett", {}),
        ("vnet", {"widht": 4}),
        ("vnet", {"depth": 2}),
        ("vnet", {"dropout": 1.5}),
        ("unet2d", {"depth": 9}),
        ("unet3d", {"norm": "layer"}),
    ],
)
def test_what_cannot_be_built_is_explained(name, options):
    with pytest.raises((InputError, ValueError)) as raised:
        build_network(name, 1, 2, options)
    assert isinstance(raised.value, InputError), "the user wrote it, so the user can repair it"
    assert any(word in str(raised.value) for word in ("vnett", "depth", "dropout", "norm", "widht"))


def _norm_pair(layout):
    x = torch.randn(3, 5, 4, 6, 8).to(memory_format=layout) if layout else torch.randn(3, 5, 6, 8)
    ours = x.clone(memory_format=torch.preserve_format).requires_grad_()
    theirs = x.clone().contiguous().requires_grad_()
    return ours, theirs


@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last_3d, None), ids=("3d", "channels_last_3d", "2d"))
@pytest.mark.parametrize("affine", (True, False))
def test_instance_norm_is_pytorchs_forward_and_backward(layout, affine):
    ours, theirs = _norm_pair(layout)
    norm = InstanceNorm(5, affine)
    if affine:
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2.0)
            norm.bias.normal_()
    weight = norm.weight.detach().clone().requires_grad_() if affine else None
    bias = norm.bias.detach().clone().requires_grad_() if affine else None
    found, wanted = norm(ours), F.instance_norm(theirs, weight=weight, bias=bias)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(wanted)
    (found * slope).sum().backward()
    (wanted * slope).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    if affine:
        torch.testing.assert_close(norm.weight.grad, weight.grad, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(norm.bias.grad, bias.grad, rtol=1e-5, atol=1e-4)


def test_instance_norm_of_one_voxel_is_its_shift():
    norm = InstanceNorm(2)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(norm(torch.randn(2, 2, 1, 1, 1)).flatten(1), torch.tensor([[1.0, -1.0]] * 2))
    assert InstanceNorm(2, affine=False)(torch.randn(1, 2, 1, 1)).abs().max() == 0
    torch.relu_(norm(torch.randn(2, 2, 1, 1, 1))).sum().backward()  # what follows may work in place
    assert norm.bias.grad.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_convolution_of_side_1_has_a_stride(name):
    """On channels-last planes of few channels PyTorch's own corrupts the memory of the process."""
    options = {"first": "resvnet", "second": "resvnet"} if name == "two_networks3d" else {}
    strided = [module for module in build_network(name, 1, 2, options).modules() if isinstance(module, (nn.Conv2d, nn.Conv3d)) and max(module.stride) > 1]
    assert all(min(module.kernel_size) > 1 for module in strided)


@pytest.mark.parametrize("dims", (2, 3))
def test_a_residual_block_that_halves_is_the_strided_one(dims):
    block = ResidualBlock(3, 6, 2, "none", dims)
    x = torch.randn(2, 3, *[7] * dims)
    strided = (F.conv2d if dims == 2 else F.conv3d)(x, block.shortcut[0].weight, stride=2)
    torch.testing.assert_close(block(x), F.relu(block.body(x) + strided))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dims", (2, 3))
def test_norms_keep_the_shape(norm, dims):
    x = torch.randn(2, 16, *[4] * dims)
    assert make_norm(norm, 16, dims)(x).shape == x.shape
