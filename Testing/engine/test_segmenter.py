"""The model file, the segmenter and what is cleaned after it."""

import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tiny_model import LEFT_ATRIUM, box_volume, card_of, thresholding_weights, write_tiny_model

from semiseg.data.geometry import Geometry
from semiseg.data.preprocess import Preprocessing
from semiseg.data.volume import Volume
from semiseg.errors import InputError
from semiseg.inference import memory as memory_module
from semiseg.inference import segmenter as segmenter_module
from semiseg.inference.memory import fitting_patch, gpu_memory_gb, is_out_of_memory
from semiseg.inference.model_file import FORMAT_VERSION, read_model, write_model
from semiseg.inference.postprocess import keep_largest_component, remove_small_islands
from semiseg.inference.segmenter import Segmenter, SegmentOptions, normalized_entropy

ENGINE = Path(segmenter_module.__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def refused(code, call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


class TestModelFile:
    def test_card_and_weights_survive(self, tmp_path):
        path = write_tiny_model(tmp_path / "model.pt")
        card, weights = read_model(path)
        assert card["labels"] == LEFT_ATRIUM and card["format_version"] == FORMAT_VERSION
        wanted = thresholding_weights((0.5,))
        assert weights.keys() == wanted.keys() and all(torch.equal(weights[key], wanted[key]) for key in wanted)
        assert [item.name for item in tmp_path.iterdir()] == ["model.pt"]

    def test_a_view_stores_only_its_own_numbers(self, tmp_path):
        write_model(tmp_path / "model.pt", card_of(), {"w": torch.zeros(1_000_000)[:3]})
        assert (tmp_path / "model.pt").stat().st_size < 10_000

    def test_a_pickle_with_code_is_never_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "owned"),)

        torch.save({"weights": {}, "card": Evil()}, tmp_path / "zip.pt")
        (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
        torch.save({"weights": {}, "card": Evil()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        for name in ("zip.pt", "plain.pt", "old.pt"):
            refused("E403", read_model, tmp_path / name)
        assert not (tmp_path / "owned").exists()

    def test_files_that_are_not_ours(self, tmp_path):
        path = tmp_path / "model.pt"
        card = json.dumps({"format": "semiseg-model", "format_version": 1})
        for content in (
            [1, 2],
            {"weights": {}},
            {"weights": {}, "card": "{"},
            {"weights": {}, "card": '{"format": "other"}'},
            {"weights": {}, "card": "[]"},
            {"weights": {}, "card": card},  # lacks what a card must have
            {"weights": [1], "card": json.dumps({**json.loads(card), **card_of()})},
        ):
            torch.save(content, path)
            refused("E403", read_model, path)
        path.write_text("hello")
        refused("E403", read_model, path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refused("E403", read_model, path)

    def test_a_truncated_file(self, tmp_path):
        path = write_tiny_model(tmp_path / "model.pt")
        path.write_bytes(path.read_bytes()[:-2000])
        refused("E403", read_model, path)

    def test_a_missing_and_a_newer_file(self, tmp_path):
        refused("E405", read_model, tmp_path / "none.pt")
        write_model(tmp_path / "model.pt", {**card_of(), "format_version": FORMAT_VERSION + 1}, {})
        assert "Update" in refused("E404", read_model, tmp_path / "model.pt")

    def test_an_interrupted_write_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = write_tiny_model(tmp_path / "model.pt")
        before = path.read_bytes()

        def half(_, stream):
            stream.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", half)
        refused("E807", write_model, path, card_of(), {})
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1

    def test_a_card_must_be_complete_when_written(self, tmp_path):
        with pytest.raises(ValueError, match="lacks network"):
            write_model(tmp_path / "model.pt", {"labels": [], "preprocessing": {}, "patch_size": []}, {})

    def test_weights_that_do_not_fit_their_network(self, tmp_path):
        write_model(tmp_path / "model.pt", card_of(), {"w": torch.zeros(3)})
        refused("E403", Segmenter, tmp_path / "model.pt")

    def test_wrong_number_of_classes(self, tmp_path):
        card = card_of()
        card["network"]["num_classes"] = 3
        write_model(tmp_path / "model.pt", card, thresholding_weights((0.5,)))
        assert "3 classes for 1 named" in refused("E403", Segmenter, tmp_path / "model.pt")

    def test_a_network_nobody_knows(self, tmp_path):
        write_model(tmp_path / "model.pt", card_of(name="resnet99"), thresholding_weights((0.5,)))
        assert "resnet99" in refused("E403", Segmenter, tmp_path / "model.pt")


def oblique(volume):
    """The same voxels, turned in space and stored with other axes."""
    angle = math.radians(20)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    geometry = Geometry.from_parts(
        volume.geometry.shape,
        volume.geometry.spacing_mm,
        (1.0, 2.0, 3.0),
        turn @ np.array([[0, -1, 0], [0, 0, 1], [1.0, 0, 0]]),
    )
    return Volume(volume.array, geometry)


class TestSegment:
    @pytest.mark.parametrize("orientation", ["canonical", "none"])
    def test_labels_lie_on_the_source_grid(self, tmp_path, orientation):
        path = write_tiny_model(
            tmp_path / "model.pt", preprocessing=Preprocessing(orientation=orientation, intensity="none")
        )
        for volume in (box_volume(), oblique(box_volume())):
            found = Segmenter(path).segment(volume)
            assert found.labels.geometry is volume.geometry and found.labels.array.dtype == np.uint8
            assert np.array_equal(found.labels.array, volume.array > 0.5)
            assert found.probability is None and found.uncertainty is None and found.notes == ()
            assert found.volumes_ml == {"left atrium": pytest.approx(5 * 5 * 7 * 3.0 / 1000)}

    def test_a_coarser_prepared_grid_is_undone(self, tmp_path):
        preprocessing = Preprocessing(intensity="none", spacing_mm=(4.0, 2.0, 3.0))
        path = write_tiny_model(tmp_path / "model.pt", preprocessing=preprocessing)
        volume = box_volume((16, 16, 16), (slice(4, 12), slice(4, 12), slice(4, 12)))
        found = Segmenter(path).segment(volume, SegmentOptions(probability=True))
        assert found.labels.array.shape == (16, 16, 16)
        assert found.labels.array[5:11, 5:11, 5:11].all() and not found.labels.array[:3].any()
        assert found.probability.geometry is volume.geometry and found.probability.array.shape == (16, 16, 16)

    @pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float64])
    def test_any_type_of_voxel(self, tmp_path, kind):
        path = write_tiny_model(tmp_path / "model.pt")
        volume = box_volume()
        found = Segmenter(path).segment(volume.with_array(volume.array.astype(kind)))
        assert np.array_equal(found.labels.array, volume.array > 0.5)

    def test_several_structures_keep_the_values_of_the_card(self, tmp_path):
        labels = [{"value": 7, "name": "a"}, {"value": 420, "name": "b"}]
        path = write_tiny_model(tmp_path / "model.pt", thresholds=(0.5, 1.5), labels=labels)
        volume = box_volume()
        volume.array[4:6, 5:7, 6:8] = 2.0
        found = Segmenter(path).segment(volume)
        assert found.labels.array.dtype == np.uint16
        assert np.array_equal(found.labels.array, np.select([volume.array > 1.5, volume.array > 0.5], [420, 7], 0))
        assert found.volumes_ml["b"] == pytest.approx(8 * 3.0 / 1000)

    def test_a_network_of_planes(self, tmp_path):
        from tiny_model import OPTIONS

        torch.manual_seed(0)
        from semiseg.networks import build_network

        network = build_network("unet2d", 1, 2, OPTIONS)
        write_model(tmp_path / "model.pt", card_of(name="unet2d", patch_size=(8, 8)), network.state_dict())
        volume = box_volume()
        found = Segmenter(tmp_path / "model.pt").segment(volume, SegmentOptions(probability=True))
        with torch.no_grad():
            whole = network.eval()(torch.from_numpy(volume.array[5:6, None, :8, :8])).logits.softmax(1)[0, 1]
        assert found.labels.array.shape == volume.array.shape
        one_window = Segmenter(tmp_path / "model.pt").segment(
            Volume(volume.array[:, :8, :8].copy(), Geometry.from_parts((12, 8, 8), (1, 1, 1))),
            SegmentOptions(probability=True),
        )
        assert np.allclose(one_window.probability.array[5], whole.numpy(), atol=1e-4)

    def test_probability_and_doubt(self, tmp_path):
        path = write_tiny_model(tmp_path / "model.pt")
        volume = box_volume()
        volume.array[4, 5, 6] = 0.5  # on the threshold: probability one half
        found = Segmenter(path).segment(volume, SegmentOptions(probability=True, uncertainty=True))
        assert found.probability.array[4, 5, 6] == pytest.approx(0.5, abs=1e-4)
        assert found.uncertainty.array[4, 5, 6] == pytest.approx(1.0, abs=1e-4)
        assert found.uncertainty.array[5, 5, 6] < 0.01 and found.uncertainty.array[0, 0, 0] < 0.01
        assert found.probability.array.dtype == found.uncertainty.array.dtype == np.float32

    def test_flips_and_strides_do_not_change_a_network_that_sees_single_voxels(self, tmp_path):
        path = write_tiny_model(tmp_path / "model.pt")
        volume = box_volume()
        for options in (
            SegmentOptions(flips=(0, 1, 2)),
            SegmentOptions(stride=(3, 1, 8), blend="constant", batch_windows=3),
        ):
            assert np.array_equal(Segmenter(path).segment(volume, options).labels.array, volume.array > 0.5)

    def test_progress_counts_every_window_once(self, tmp_path):
        told = []
        Segmenter(write_tiny_model(tmp_path / "model.pt")).segment(box_volume(), progress=lambda *at: told.append(at))
        assert told[-1][0] == told[-1][1] and [at[0] for at in told] == sorted({at[0] for at in told})

    def test_largest_piece_is_the_default_for_one_structure_only(self, tmp_path):
        volume = box_volume()
        volume.array[0, 0, 0] = 1.0
        one = write_tiny_model(tmp_path / "one.pt")
        assert Segmenter(one).segment(volume).labels.array[0, 0, 0] == 0
        assert Segmenter(one).segment(volume, SegmentOptions(largest_component=False)).labels.array[0, 0, 0] == 1
        small = SegmentOptions(largest_component=False, min_island_ml=0.004)  # a voxel has 0.003 mL
        assert Segmenter(one).segment(volume, small).labels.array[0, 0, 0] == 0
        says_no = write_tiny_model(tmp_path / "no.pt", largest_component=False)
        assert Segmenter(says_no).segment(volume).labels.array[0, 0, 0] == 1
        two = write_tiny_model(
            tmp_path / "two.pt", (0.5, 1.5), labels=[{"value": 1, "name": "a"}, {"value": 2, "name": "b"}]
        )
        assert Segmenter(two).segment(volume).labels.array[0, 0, 0] == 1

    def test_an_empty_result_is_allowed_and_said(self, tmp_path):
        volume = box_volume(value=0.2)
        found = Segmenter(write_tiny_model(tmp_path / "model.pt")).segment(volume)
        assert not found.labels.array.any()
        assert [note.code for note in found.notes] == ["E506"] and "No left atrium was found" in found.notes[0].message

    def test_spacing_far_from_the_training_data_is_said(self, tmp_path):
        path = write_tiny_model(tmp_path / "model.pt", spacing_range_mm=[[0.6, 0.6, 0.6], [1.3, 1.3, 1.3]])
        assert Segmenter(path).segment(box_volume(spacing_mm=(1.2, 0.7, 0.7))).notes == ()
        notes = Segmenter(path).segment(box_volume(spacing_mm=(5.0, 0.7, 0.7))).notes
        assert [note.code for note in notes] == ["E307"] and "0.6–1.3 mm" in notes[0].message

    def test_volumes_that_cannot_be_used(self, tmp_path):
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt"))
        nan = box_volume()
        nan.array[0, 0, 0] = np.nan
        refused("E309", ready.segment, nan)
        refused("E309", ready.segment, box_volume(value=0.0))
        refused("E302", ready.segment, box_volume((1, 14, 16), (slice(0, 1), slice(4, 9), slice(5, 12))))

    def test_options_that_make_no_sense(self):
        for wrong in (
            {"stride": (0, 1, 1)},
            {"stride": ()},
            {"blend": "x"},
            {"flips": (3,)},
            {"connectivity": 4},
            {"min_island_ml": -1.0},
            {"batch_windows": 0},
        ):
            with pytest.raises(InputError):
                SegmentOptions(**wrong)
        assert SegmentOptions(stride=[1, 2, 3], flips=[0]).stride == (1, 2, 3)

    def test_a_stride_of_the_wrong_length(self, tmp_path):
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt"))
        with pytest.raises(InputError, match="stride of 2"):
            ready.segment(box_volume(), SegmentOptions(stride=(4, 4)))


class Scarce(torch.nn.Module):
    """A network on a GPU with room for so many windows."""

    downscale = 4

    def __init__(self, network, room):
        super().__init__()
        self.network, self.room, self.seen = network, room, []

    def forward(self, windows):
        self.seen.append(len(windows))
        if len(windows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.network(windows)


class TestOutOfMemory:
    def test_it_is_tried_again_with_one_window(self, tmp_path):
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt"))
        ready.network = Scarce(ready.network, room=1)
        volume = box_volume()
        found = ready.segment(volume)
        assert np.array_equal(found.labels.array, volume.array > 0.5)
        assert ready.network.seen[0] == 2 and set(ready.network.seen[1:]) == {1}
        assert [note.code for note in found.notes] == ["E205"]

    def test_then_it_says_what_would_fit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(segmenter_module, "gpu_memory_gb", lambda *_: (5.1, 3.2))
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt", patch_size=(16, 16, 16)))
        ready.network = Scarce(ready.network, room=0)
        message = refused("E205", ready.segment, box_volume((12, 14, 40)), SegmentOptions(stride=(8, 8, 8)))
        assert "needs about 5.1 GB, free 3.2 GB" in message and "12×12×12" in message
        assert ready.network.seen == [2, 1]

    def test_another_error_is_not_mistaken_for_it(self, tmp_path, monkeypatch):
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt"))

        def broken(_):
            raise RuntimeError("a defect")

        monkeypatch.setattr(ready, "_run", broken)
        with pytest.raises(RuntimeError, match="a defect"):
            ready.segment(box_volume())

    def test_what_counts_as_out_of_memory(self):
        assert is_out_of_memory(torch.OutOfMemoryError("x"))
        assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. CUDA out of memory"))
        assert not is_out_of_memory(RuntimeError("shape mismatch"))
        assert gpu_memory_gb(torch.device("cpu"), "x") == (0.0, 0.0)

    def test_a_volume_beyond_the_memory_is_refused_before_the_work(self, tmp_path, monkeypatch):
        ready = Segmenter(write_tiny_model(tmp_path / "model.pt"))
        monkeypatch.setattr(memory_module, "free_memory_bytes", lambda: 10_000)
        message = refused("E310", ready.segment, box_volume(), name="P1")
        assert "'P1' (16×14×12" in message and "0.0 GB is free" in message
        monkeypatch.setattr(memory_module, "free_memory_bytes", lambda: None)
        assert ready.segment(box_volume()).labels.array.any()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is free")
    def test_free_memory_is_a_sensible_number(self):
        assert 2**20 < memory_module.free_memory_bytes() < 2**50

    def test_the_fitting_window_is_smaller_and_divides(self):
        assert fitting_patch((80, 112, 112), 16, 8.0, 4.0) == (48, 80, 80)
        assert fitting_patch((16, 16), 8, 100.0, 0.1) == (8, 8)


class TestPostprocess:
    def test_largest_piece_of_each_structure(self):
        labels = np.zeros((1, 4, 8), np.uint8)
        labels[0, 0, :3], labels[0, 3, :2] = 1, 1
        labels[0, 0, 6], labels[0, 2:, 6] = 2, 2
        found = keep_largest_component(labels)
        assert found.sum(where=found == 1) == 3 and (found == 2).sum() == 2 and labels[0, 3, 0] == 1

    def test_connectivity_decides_whether_corners_join(self):
        labels = np.zeros((3, 3, 3), np.uint8)
        labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 1
        assert [keep_largest_component(labels, connectivity=n).sum() for n in (6, 18, 26)] == [1, 1, 3]
        labels[2, 2, 2], labels[0, 1, 1] = 0, 0
        labels[0, 1, 0] = 1  # an edge away from [1, 1, 1]
        assert [keep_largest_component(labels, connectivity=n).sum() for n in (6, 18, 26)] == [2, 3, 3]
        with pytest.raises(ValueError):
            keep_largest_component(labels, connectivity=8)

    def test_slicewise_keeps_a_piece_in_each_slice(self):
        labels = np.zeros((2, 1, 6), np.uint8)
        labels[0, 0, [0, 1, 4]] = 1
        labels[1, 0, [0, 3, 4]] = 1
        found = keep_largest_component(labels, slicewise=True)
        assert found[:, 0].tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]

    def test_small_islands(self):
        labels = np.zeros((1, 1, 9), np.uint8)
        labels[0, 0, [0, 2, 3, 5, 6, 7]] = 1
        assert remove_small_islands(labels, 2)[0, 0].tolist() == [0, 0, 1, 1, 0, 1, 1, 1, 0]
        assert not remove_small_islands(labels, 4).any()

    def test_other_structures_stay(self):
        labels = np.array([[[1, 0, 1, 0, 2, 0, 2]]], np.uint8)
        assert keep_largest_component(labels, values=[2])[0, 0].tolist() == [1, 0, 1, 0, 2, 0, 0]
        assert not keep_largest_component(np.zeros((2, 2, 2), np.uint8)).any()

    @given(st.integers(0, 2**60 - 1), st.sampled_from([6, 18, 26]))
    @settings(max_examples=50, deadline=None)
    def test_what_stays_is_one_piece_and_the_largest(self, bits, connectivity):
        mask = np.array([(bits >> place) & 1 for place in range(60)], np.uint8).reshape(3, 4, 5)
        found = keep_largest_component(mask, connectivity=connectivity)
        structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
        assert ndimage.label(found, structure)[1] == min(1, mask.any())
        pieces, count = ndimage.label(mask, structure)
        sizes = np.bincount(pieces.ravel())[1:] if count else [0]
        assert found.sum() == max(sizes) and not (found & ~mask.astype(bool)).any()


def test_entropy_is_zero_when_sure_and_one_when_all_classes_are_alike():
    maps = torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 1, 3)
    assert normalized_entropy(maps).flatten().tolist() == pytest.approx([0.0, 0.0, 1.0])
    four = torch.tensor([[1.0, 0.25, 0.5], [0.0, 0.25, 0.5], [0.0, 0.25, 0.0], [0.0, 0.25, 0.0]]).view(4, 1, 1, 3)
    assert normalized_entropy(four).flatten().tolist() == pytest.approx([0.0, 1.0, 0.5])
    deep = torch.rand(1, 40, 2, 2)
    assert torch.equal(normalized_entropy(deep, slab=7), normalized_entropy(deep, slab=100))


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage is not there on Windows")
def test_memory_is_bounded_by_the_volume_not_by_the_windows(tmp_path):
    """A volume of 88 slices of 640 x 640 has 144 MB as float32; segmenting it may hold a few copies, not one for every window.

    The network is replaced by one that looks at single voxels: what a real one needs depends on the window alone.
    """
    path = write_tiny_model(tmp_path / "model.pt", patch_size=(24, 64, 64))
    program = f"""
        import resource, sys
        sys.path.insert(0, {str(ENGINE)!r})
        import numpy as np, torch
        torch.set_num_threads(1)
        from semiseg.data.geometry import Geometry
        from semiseg.data.volume import Volume
        from semiseg.inference.segmenter import Segmenter, SegmentOptions
        from semiseg.networks.output import NetworkOutput
        def peak_mb():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak / (1024**2 if sys.platform == "darwin" else 1024)
        ready = Segmenter({str(path)!r})
        class Threshold(torch.nn.Module):
            def forward(self, x):
                return NetworkOutput(torch.cat([torch.zeros_like(x), 20 * (x - 0.5)], 1), {{}})
        ready.network = Threshold()
        small = np.zeros((24, 64, 64), np.int16)
        small[4:9, 9:20, 9:30] = 1
        ready.segment(Volume(small, Geometry.from_parts(small.shape, (1, 1, 1))))
        before = peak_mb()
        large = np.zeros((88, 640, 640), np.int16)
        large[10:30, 90:200, 90:300] = 1
        options = SegmentOptions(stride=(24, 64, 64), uncertainty=True)
        found = ready.segment(Volume(large, Geometry.from_parts(large.shape, (1, 1, 1))), options)
        assert found.labels.array.sum() == 20 * 110 * 210
        print(peak_mb() - before)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) < 8 * 144, answer.stdout + " MB"
