"""Convolutions handed to oneDNN say what PyTorch's own say, alone and in every network that can be chosen."""

import pytest
import torch
from torch import nn

from semiseg.inference import onednn
from semiseg.inference.deploy import deploy
from semiseg.inference.onednn import OneDNNConvolution, columns_at_once, hand_to_onednn, side_by_side
from semiseg.networks import build_network

needs_onednn = pytest.mark.skipif(not onednn.is_available(), reason="needs an x86 processor with vectors and oneDNN")
SMALL = {"width": 2, "depth": 3}
PAIR = {"first": "vnet", "first_options": SMALL, "second": "resvnet", "second_options": SMALL}
NETWORKS = [
    *[(name, {**SMALL, "norm": norm}) for name in ("vnet", "unet3d", "unet2d", "resvnet") for norm in ("batch", "instance")],
    ("vnet", {**SMALL, "coarse_stem": True, "bottleneck_graph": True}),
    ("two_networks3d", PAIR),
    ("two_networks2d", {"first_options": SMALL, "second_options": SMALL}),
    ("semigda3d", {"width": 4, "depth": 3}),
    ("semigda2d", {"width": 4, "depth": 3}),
]


def trained_like(name, options, num_classes=3):
    """Weights and running statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    network = build_network(name, 1, num_classes, options)
    for _ in range(3):
        network(torch.randn(2, 1, *[8] * network.spatial_dims) * 2 + 1)
    return network.eval()


@needs_onednn
@pytest.mark.parametrize("name, options", NETWORKS, ids=lambda value: value if isinstance(value, str) else value.get("norm", ""))
@pytest.mark.parametrize("batch", [1, 3])
def test_every_network_gives_the_same_probabilities_and_labels(name, options, batch):
    network = trained_like(name, options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ready = deploy(network)
    assert any(isinstance(module, OneDNNConvolution) for module in ready.modules())
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    assert not any(isinstance(module, kinds) for module in ready.modules())
    image = torch.randn(batch, 1, *[16] * (network.spatial_dims - 1), 32)
    with torch.inference_mode():
        expected, found = network(image).logits.softmax(1), ready(image).logits.softmax(1)
    # SemiGDA multiplies what its decoder says by 8, rounding included.
    torch.testing.assert_close(found, expected, rtol=0, atol=4e-5 if name.startswith("semigda") else 1e-5)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "the original is left alone"


@needs_onednn
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.LeakyReLU(0.2)], ids=str)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("in_channels", [1, 4])
@pytest.mark.parametrize("out_channels", [1, 2, 3, 8, 16, 20])
def test_columns_computed_together_are_those_computed_apart(activation, kind, in_channels, out_channels):
    torch.manual_seed(0)
    for side, width in ((1, 16), (3, 2), (3, 4), (3, 7), (3, 8), (3, 16), (3, 32), (5, 48)):  # one group of columns, several, none
        convolution = kind(in_channels, out_channels, side, padding=side // 2).requires_grad_(False)
        image = torch.randn(2, in_channels, *[5] * (convolution.weight.ndim - 3), width)
        expected = convolution(image) if activation is None else activation(convolution(image))
        torch.testing.assert_close(OneDNNConvolution(convolution, activation)(image), expected, rtol=1e-5, atol=1e-5)


def test_neighboring_columns_are_channels_of_one_convolution():
    weight = torch.tensor([[[[1.0, 2.0, 3.0]]], [[[4.0, 5.0, 6.0]]]])  # two channels that look along a row
    wide = side_by_side(weight, 2)[:, 0, 0]
    assert wide.tolist() == [[1, 2, 3, 0], [4, 5, 6, 0], [0, 1, 2, 3], [0, 4, 5, 6]]


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv3d(1, 2, 1),
        nn.Conv3d(1, 2, 2, stride=2),
        nn.Conv3d(1, 2, 3),
        nn.Conv3d(1, 2, 3, padding=2, dilation=2),
        nn.Conv3d(2, 2, 3, padding=1, groups=2),
        nn.ConvTranspose3d(1, 2, 3, padding=1),
        nn.Conv3d(1, 16, 3, padding=1),
    ],
    ids=str,
)
def test_columns_stay_apart_where_their_number_changes_or_channels_are_many(convolution):
    assert columns_at_once(convolution) == 1


@needs_onednn
def test_only_the_rectifier_right_behind_is_taken_along():
    network = hand_to_onednn(nn.Sequential(nn.Conv3d(1, 2, 1), nn.Identity(), nn.ReLU(), nn.Conv3d(2, 2, 1), nn.Tanh(), nn.ReLU()))
    assert [type(module).__name__ for module in network] == [
        "OneDNNConvolution", "Identity", "Identity", "OneDNNConvolution", "Tanh", "ReLU",
    ]  # fmt: skip


@needs_onednn
def test_what_oneDNN_is_not_asked_for_stays():
    shared = nn.Conv3d(1, 1, 1)
    network = nn.Sequential(shared, shared, nn.Conv3d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Conv3d(1, 1, 1).double())
    hand_to_onednn(network)
    assert all(type(module) is nn.Conv3d for module in network)


def test_without_the_operators_networks_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    onednn.is_available.cache_clear()
    try:
        assert not onednn.is_available()
        assert type(deploy(nn.Sequential(nn.Conv3d(1, 1, 1)))[0]) is nn.Conv3d
    finally:
        monkeypatch.undo()
        onednn.is_available.cache_clear()
