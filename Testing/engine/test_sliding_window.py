"""Windows over a volume: what comes out is what the network says, averaged as drawn."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from semiseg.inference.deploy import deploy, fold_batch_norm
from semiseg.inference.sliding_window import (
    blend_profile,
    dense_stride,
    sliding_window,
    window_probabilities,
    window_starts,
)
from semiseg.networks import build_network


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def identity(windows):
    return windows


class Numbered:
    """Gives every window the next power of two, so that a sum tells which windows it is made of."""

    def __init__(self):
        self.count = 0

    def __call__(self, windows):
        maps = torch.empty_like(windows)
        for window in maps:
            window.fill_(2.0**self.count)
            self.count += 1
        return maps


def plain_loop(network, image, patch, stride):
    """The test code of the papers: one window at a time, sums and counts."""
    sums, count = torch.zeros(2, *image.shape[2:]), torch.zeros(image.shape[2:])
    for corner in itertools.product(*[window_starts(*sizes) for sizes in zip(image.shape[2:], patch, stride)]):
        box = tuple(slice(first, first + size) for first, size in zip(corner, patch))
        with torch.no_grad():
            sums[(slice(None), *box)] += network(image[(slice(None), slice(None), *box)]).logits.softmax(1)[0]
        count[box] += 1
    return (sums / count)[1]


class TestStarts:
    def test_the_last_window_ends_at_the_border(self):
        assert window_starts(10, 4, 3) == [0, 3, 6]
        assert window_starts(11, 4, 3) == [0, 3, 6, 7]
        assert window_starts(4, 4, 3) == [0]
        assert window_starts(5, 4, 100) == [0, 1]

    def test_left_atrium_volumes_have_the_published_number_of_windows(self):
        # methods of the literature: 80 x 112 x 112 at stride 4, 18, 18 makes 45 to 84 windows
        for shape, count in (((88, 132, 160), 3 * 3 * 4), ((88, 142, 190), 3 * 3 * 6), ((88, 160, 244), 3 * 4 * 9)):
            starts = [window_starts(*sizes) for sizes in zip(shape, (80, 112, 112), (4, 18, 18))]
            assert len(list(itertools.product(*starts))) == count

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
    def test_every_voxel_is_covered_and_no_window_leaves(self, size, patch, stride):
        size = max(size, patch)
        stride = min(stride, patch)
        starts = window_starts(size, patch, stride)
        assert starts == sorted(set(starts))
        covered = {voxel for first in starts for voxel in range(first, first + patch)}
        assert covered == set(range(size))


class TestDrawnBlends:
    """A 4 x 4 image, windows 2 x 4 at stride 1: three windows with the values 1, 2 and 4."""

    def blend(self, kind):
        maps = sliding_window(Numbered(), torch.zeros(1, 1, 1, 4, 4), (1, 2, 4), (1, 1, 4), 3, kind)
        return maps[0, 0]

    def test_constant_blend_is_the_mean_of_the_windows_on_a_voxel(self):
        drawn = torch.tensor(
            [
                [1.0, 1.0, 1.0, 1.0],  # first window alone
                [1.5, 1.5, 1.5, 1.5],  # first and second
                [3.0, 3.0, 3.0, 3.0],  # second and third
                [4.0, 4.0, 4.0, 4.0],  # third alone
            ]
        )
        assert torch.allclose(self.blend("constant"), drawn)

    def test_gaussian_blend_of_two_rows_weighs_both_alike(self):
        # The two rows of a window lie equally far from its middle, so their weights are equal.
        assert torch.allclose(self.blend("gaussian"), self.blend("constant"))

    def test_gaussian_blend_trusts_the_middle_of_a_window(self):
        maps = sliding_window(Numbered(), torch.zeros(1, 1, 1, 4, 4), (1, 3, 4), (1, 1, 4), 2, "gaussian")[0, 0]
        side = blend_profile(3, "gaussian")[0].item()  # weight of the outer rows of a window, 1 in the middle
        drawn = torch.tensor(
            [
                [1.0] * 4,
                [(1 * 1 + 2 * side) / (1 + side)] * 4,  # middle of the first window, border of the second
                [(1 * side + 2 * 1) / (1 + side)] * 4,
                [2.0] * 4,
            ]
        )
        assert torch.allclose(maps, drawn)
        assert side < 0.05

    def test_windows_count_where_the_last_one_is_moved_back_to_the_border(self):
        maps = sliding_window(Numbered(), torch.zeros(1, 1, 1, 1, 5), (1, 1, 3), (1, 1, 3), 1)[0, 0, 0]
        assert maps.tolist() == [1.0, 1.0, 1.5, 2.0, 2.0]  # windows 0..2 and 2..4


class TestIdentity:
    @given(
        st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 13)),
        st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 8)),
        st.sampled_from(["constant", "gaussian"]),
        st.sampled_from([(), (0,), (1, 2), (0, 1, 2)]),
        st.integers(1, 5),
    )
    @settings(max_examples=60, deadline=None)
    def test_identity_network_gives_the_image_back(self, shape, patch, blend, flips, batch):
        image = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
        stride = tuple(max(1, side // 2) for side in patch)
        maps = sliding_window(identity, image, patch, stride, batch, blend, flips)
        assert maps.shape == (2, *shape) and maps.dtype == torch.float32
        assert torch.allclose(maps, image[0], atol=1e-5)

    @pytest.mark.parametrize("blend", ["constant", "gaussian"])
    def test_a_network_of_planes_gives_the_image_back(self, blend):
        image = torch.randn(1, 1, 5, 9, 12)
        seen = []

        def planar(windows):
            seen.append(tuple(windows.shape))
            return windows

        maps = sliding_window(planar, image, (4, 5), (2, 3), 3, blend, flips=(1, 2))
        assert torch.allclose(maps, image[0], atol=1e-5)
        assert {shape[1:] for shape in seen} == {(1, 4, 5)}

    def test_padding_is_cut_away_on_the_side_where_it_was_added(self):
        image = torch.arange(1.0, 4.0).view(1, 1, 1, 1, 3)  # padded to 8: two in front, three behind
        windows = []
        maps = sliding_window(lambda w: windows.append(w.clone()) or w, image, (1, 1, 8), (1, 1, 4))
        assert maps.flatten().tolist() == [1.0, 2.0, 3.0]
        assert windows[0].flatten().tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]

    def test_a_bfloat16_network_is_summed_in_float32(self):
        image = torch.rand(1, 1, 4, 4, 40)
        maps = sliding_window(lambda w: w.bfloat16(), image, (4, 4, 8), (4, 4, 1))
        assert maps.dtype == torch.float32
        assert torch.allclose(maps, image[0].bfloat16().float(), atol=1e-6)


class TestBatches:
    def test_windows_run_in_batches_of_nearly_equal_size(self):
        sizes = []
        sliding_window(lambda w: sizes.append(len(w)) or w, torch.zeros(1, 1, 4, 4, 12), (4, 4, 4), (4, 4, 2), 4)
        assert sizes == [2, 3]  # five windows: not 4 and 1

    def test_progress_counts_windows(self):
        told = []
        sliding_window(
            identity, torch.zeros(1, 1, 4, 4, 12), (4, 4, 4), (4, 4, 2), 2, progress=lambda *at: told.append(at)
        )
        assert told == [(1, 5), (3, 5), (5, 5)]

    def test_mirrored_windows_are_mirrored_back(self):
        image = torch.rand(1, 1, 6, 6, 6)
        ramp = torch.linspace(0, 1, 6)

        def leaning(windows):  # a network with a preference for large columns
            return windows + ramp

        maps = sliding_window(leaning, image, (6, 6, 6), (6, 6, 6), flips=(2,))
        assert torch.allclose(maps, image[0] + 0.5, atol=1e-6)  # the preference cancels

    def test_result_can_be_changed_and_carries_no_graph(self):
        weight = torch.ones(1, requires_grad=True)
        maps = sliding_window(lambda w: w * weight, torch.rand(1, 1, 4, 4, 4), (4, 4, 4), (2, 2, 2))
        assert not maps.requires_grad and not maps.is_inference()
        maps += 1


class TestRefusals:
    image = torch.zeros(1, 1, 4, 4, 4)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"image": torch.zeros(2, 1, 4, 4, 4)},
            {"patch_size": (4, 4, 0)},
            {"stride": (1, 1)},
            {"batch_windows": 0},
            {"blend": "median"},
            {"flips": (3,)},
            {"patch_size": (4, 4), "stride": (2, 2), "flips": (0,)},
        ],
    )
    def test_arguments_that_make_no_sense(self, arguments):
        full = {"image": self.image, "patch_size": (2, 2, 2), "stride": (1, 1, 1)} | arguments
        with pytest.raises(ValueError):
            sliding_window(identity, full.pop("image"), full.pop("patch_size"), full.pop("stride"), **full)

    def test_a_network_that_changes_the_size(self):
        with pytest.raises(ValueError, match="other batch or space"):
            sliding_window(lambda w: w[..., 1:], self.image, (2, 2, 2), (1, 1, 1))


class TestProbabilities:
    def test_two_classes_give_the_softmax_of_the_foreground(self):
        logits = torch.randn(2, 2, 3, 4, 5) * 5
        assert torch.allclose(window_probabilities(logits)[:, 0], logits.softmax(1)[:, 1], atol=1e-6)
        assert window_probabilities(logits).shape == (2, 1, 3, 4, 5)

    def test_more_classes_give_all_of_them(self):
        maps = window_probabilities(torch.randn(2, 4, 3, 4, 5))
        assert maps.shape == (2, 4, 3, 4, 5) and torch.allclose(maps.sum(1), torch.ones(2, 3, 4, 5))


def trained_like(name, norm, num_classes=2):
    """A small network whose running statistics are not those of a fresh one."""
    torch.manual_seed(0)
    network = build_network(name, 1, num_classes, {"width": 2, "depth": 3, "norm": norm})
    shape = (2, 1, 8, 8, 8) if network.spatial_dims == 3 else (2, 1, 8, 8)
    for _ in range(3):
        network(torch.randn(shape) * 2 + 1)
    return network.eval()


class TestDeploy:
    @pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
    @pytest.mark.parametrize("name", ["vnet", "unet3d", "unet2d"])
    def test_the_deployed_network_says_the_same(self, name, norm):
        network = trained_like(name, norm)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        ready = deploy(network)
        x = torch.randn((3, 1, 16, 16, 16) if network.spatial_dims == 3 else (3, 1, 16, 16))
        with torch.no_grad():
            assert torch.allclose(ready(x).logits, network(x).logits, atol=1e-4)
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
        assert not ready.training and not any(p.requires_grad for p in ready.parameters())

    @pytest.mark.parametrize("name", ["vnet", "unet3d", "unet2d"])
    def test_no_batch_normalization_is_left(self, name):
        ready = deploy(trained_like(name, "batch"))
        assert not any(isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) for module in ready.modules())

    def test_only_a_normalization_that_directly_follows_is_folded(self):
        network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.BatchNorm3d(2)).eval()
        assert isinstance(fold_batch_norm(network)[2], nn.BatchNorm3d)

    def test_windows_of_the_deployed_network_equal_the_plain_loop(self):
        network = trained_like("vnet", "batch")
        image, patch, stride = torch.randn(1, 1, 12, 20, 17), (8, 8, 8), (2, 5, 3)
        ready = deploy(network)
        maps = sliding_window(lambda w: window_probabilities(ready(w).logits), image, patch, stride, 3)
        assert torch.allclose(maps[0], plain_loop(network, image, patch, stride), atol=1e-5)

    def test_windows_equal_those_of_monai(self):
        inferers = pytest.importorskip("monai.inferers", reason="MONAI is not installed")
        network, image = trained_like("vnet", "batch"), torch.randn(1, 1, 12, 20, 17)
        patch, stride = (8, 8, 8), (2, 4, 2)
        theirs = inferers.sliding_window_inference(
            image,
            patch,
            2,
            lambda w: network(w).logits.softmax(1),
            overlap=tuple(1 - step / side - 1e-9 for step, side in zip(stride, patch)),
        )
        ours = sliding_window(lambda w: window_probabilities(network(w).logits), image, patch, stride, 2)
        assert torch.allclose(ours[0], theirs[0, 1], atol=1e-5)


class TestDenseStride:
    def test_a_cropped_heart_gets_an_eighth(self):
        assert dense_stride((44, 71, 95), (48, 64, 64)) == (6, 8, 8)

    def test_a_chest_gets_a_half(self):
        assert dense_stride((88, 640, 640), (80, 112, 112)) == (40, 56, 56)

    def test_between_them_a_quarter(self):
        shape, patch = (60, 200, 200), (48, 112, 112)
        assert dense_stride(shape, patch) == (12, 28, 28)
        counts = [
            math.prod(len(window_starts(size, side, side // parts)) for size, side in zip(shape, patch)) for parts in (8, 4)
        ]
        assert counts[0] > 64 >= counts[1]

    def test_planes_count_in_their_slice(self):
        assert dense_stride((500, 96, 96), (96, 96)) == (12, 12)

    def test_a_step_is_at_least_a_voxel(self):
        assert dense_stride((4, 4, 4), (4, 4, 4)) == (1, 1, 1)
