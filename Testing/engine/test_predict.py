"""Many volumes, one model: every one ends as a mask or as a reason."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import oblique
from tiny_model import box_volume, write_tiny_model

from semiseg import predict as predict_module
from semiseg.data.files import read_labels, read_volume, write_labels, write_volume
from semiseg.data.segmentation import Segment
from semiseg.data.volume import Volume
from semiseg.distributed import World
from semiseg.errors import InputError
from semiseg.inference.segmenter import Segmenter, SegmentOptions
from semiseg.predict import predict, predict_shares, read_results, summary


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Events(list):
    def __call__(self, kind, **values):
        self.append((kind, values))

    def of(self, kind):
        return [values for found, values in self if found == kind]


@pytest.fixture()
def model(tmp_path):
    return write_tiny_model(tmp_path / "model.pt")


@pytest.fixture()
def images(tmp_path):
    """Three volumes with three endings, one of them oblique."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_volume(folder / "P1.nii.gz", box_volume())
    write_volume(folder / "P2.nrrd", Volume(box_volume().array, oblique((12, 14, 16))))
    write_volume(folder / "P3.mha", box_volume((9, 20, 11), (slice(2, 5), slice(3, 9), slice(4, 9))))
    return folder


def statuses(results):
    return {result.id: result.status for result in results}


class TestFiles:
    def test_every_volume_gets_masks_on_its_own_grid(self, model, images, tmp_path):
        results = predict(model, images, tmp_path / "out")
        assert statuses(results) == {"P1": "done", "P2": "done", "P3": "done"}
        for source in sorted(images.iterdir()):
            image = read_volume(source)
            name = source.name.split(".")[0]
            for ending in (".seg.nrrd", ".nii.gz"):
                mask, names = read_labels(tmp_path / "out" / f"{name}{ending}")
                assert names == {1: "left atrium"}
                assert mask.same_grid_as(image, tolerance_mm=1e-3)
                assert np.array_equal(mask.array, image.array > 0.5)

    def test_seg_nrrd_says_who_drew_it_and_what_it_is(self, model, images, tmp_path):
        predict(model, images / "P1.nii.gz", tmp_path / "out")
        header = (tmp_path / "out" / "P1.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
        assert "82471001" in header and "SegmentAlgorithmType:AUTOMATIC" in header and "TransMedSeg tiny" in header
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert f"TransMedSeg tiny sha:{digest[:8]}" in header, "models of one name are told apart"

    def test_maps_are_written_when_asked_for(self, model, images, tmp_path):
        options = SegmentOptions(probability=True, uncertainty=True)
        (result,) = predict(model, [images / "P1.nii.gz"], tmp_path / "out", options)
        chance = read_volume(tmp_path / "out" / "P1.probability.nii.gz")
        doubt = read_volume(tmp_path / "out" / "P1.uncertainty.nii.gz")
        assert chance.array.max() > 0.99 and chance.same_grid_as(box_volume()) and doubt.array.max() < 0.01
        assert set(result.files) == {item.name for item in (tmp_path / "out").iterdir()} - {"P1.prediction.json"}

    def test_a_left_atrium_h5_file(self, model, tmp_path):
        pytest.importorskip("h5py", reason="h5py is not installed")
        from semiseg.data.files import write_h5

        write_h5(tmp_path / "in" / "CASE" / "mri_norm2.h5", box_volume().array, box_volume().array > 0.5)
        assert statuses(predict(model, tmp_path / "in", tmp_path / "out")) == {"CASE": "done"}
        mask, _ = read_labels(tmp_path / "out" / "CASE.nii.gz")
        assert np.array_equal(mask.array, box_volume().array > 0.5)

    def test_a_folder_of_a_dicom_series(self, tmp_path):
        pytest.importorskip("pydicom", reason="pydicom is not installed")
        from synthetic_series import SeriesBuilder

        model = write_tiny_model(tmp_path / "model.pt", thresholds=(350.0,))
        SeriesBuilder(tmp_path / "in" / "LA-0001").write()
        ((name, status),) = statuses(predict(model, tmp_path / "in", tmp_path / "out")).items()
        mask, _ = read_labels(tmp_path / "out" / f"{name}.seg.nrrd")
        image = read_volume(tmp_path / "in" / "LA-0001")
        assert status == "done" and mask.same_grid_as(image, tolerance_mm=1e-3)
        assert mask.array.any() and image.array[mask.array > 0].min() > 350

    def test_of_a_dicom_folder_of_several_series_one_is_chosen_by_its_uid(self, tmp_path):
        pytest.importorskip("pydicom", reason="pydicom is not installed")
        from synthetic_series import SeriesBuilder

        model, folder = write_tiny_model(tmp_path / "model.pt", thresholds=(350.0,)), tmp_path / "in" / "LA-0001"
        builders = [SeriesBuilder(folder), SeriesBuilder(folder)]
        builders[1].pixels = builders[1].pixels[::-1].copy()  # the chamber is elsewhere, so the wrong series shows
        for number, builder in enumerate(builders):
            builder.write(names=[f"{number}-{index}.dcm" for index in range(len(builder.pixels))])
        (refused,) = predict(model, folder, tmp_path / "out")
        assert (refused.status, refused.code) == ("failed", "E314")
        assert all(builder.series_uid in refused.reason for builder in builders) and "--series-uid" in refused.reason
        for builder in builders:
            (result,) = predict(model, folder, tmp_path / "out", series_uid=builder.series_uid)
            assert result.status == "done" and result.id.endswith(builder.series_uid[-8:])
            mask, _ = read_labels(tmp_path / "out" / f"{result.id}.seg.nrrd")
            assert mask.array.any() and builder.pixels[mask.array > 0].min() >= 350
        assert len(list((tmp_path / "out").glob("*.seg.nrrd"))) == 2
        (unknown,) = predict(model, folder, tmp_path / "out", series_uid="1.2.3")
        assert unknown.code == "E314" and "There is no series 1.2.3 in this folder" in unknown.reason

    def test_masks_among_the_inputs_are_left_aside(self, model, images, tmp_path):
        write_labels(images / "P1_seg.nii.gz", box_volume().with_array(box_volume().array > 0.5), [Segment(1, "la")])
        assert set(statuses(predict(model, images, tmp_path / "out"))) == {"P1", "P2", "P3"}

    def test_volumes_of_one_name_get_names_of_their_own(self, model, tmp_path):
        for patient in ("a", "b"):
            (tmp_path / "in" / patient).mkdir(parents=True)
            write_volume(tmp_path / "in" / patient / "scan.nii.gz", box_volume())
        results = predict(model, tmp_path / "in", tmp_path / "out")
        assert len({result.id for result in results}) == 2 == len(list((tmp_path / "out").glob("*.seg.nrrd")))


class TestAgain:
    def test_done_ones_are_skipped_until_something_changes(self, model, images, tmp_path):
        out = tmp_path / "out"
        predict(model, images, out)
        stamp = (out / "P1.seg.nrrd").stat().st_mtime_ns
        assert set(statuses(predict(model, images, out)).values()) == {"skipped"}
        assert (out / "P1.seg.nrrd").stat().st_mtime_ns == stamp
        assert set(statuses(predict(model, images, out, overwrite=True)).values()) == {"done"}
        assert set(statuses(predict(model, images, out, SegmentOptions(flips=(0,)))).values()) == {"done"}
        assert set(statuses(predict(model, images, out, SegmentOptions(flips=(0,), batch_windows=1))).values()) == {
            "skipped"
        }
        write_tiny_model(model, thresholds=(0.7,))
        assert set(statuses(predict(model, images, out, SegmentOptions(flips=(0,)))).values()) == {"done"}
        write_volume(images / "P1.nii.gz", box_volume(value=2.0))
        (out / "P2.nii.gz").unlink()
        again = statuses(predict(model, images, out, SegmentOptions(flips=(0,))))
        assert again == {"P1": "done", "P2": "done", "P3": "skipped"}

    def test_an_interrupted_case_is_not_taken_for_done(self, model, images, tmp_path, monkeypatch):
        out = tmp_path / "out"
        predict(model, images / "P1.nii.gz", out)

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(predict_module, "write_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(model, images / "P1.nii.gz", out, overwrite=True)
        monkeypatch.undo()
        assert statuses(predict(model, images / "P1.nii.gz", out)) == {"P1": "done"}

    @pytest.mark.parametrize("name", ["out", "segmentations"])  # a name that says nothing, and one that says "masks"
    def test_results_inside_the_input_folder_are_no_inputs(self, model, images, tmp_path, name):
        assert statuses(predict(model, images, images / name)) == dict.fromkeys(("P1", "P2", "P3"), "done")
        assert statuses(predict(model, images, images / name)) == dict.fromkeys(("P1", "P2", "P3"), "skipped")
        assert statuses(predict(model, images, tmp_path / "elsewhere")) == dict.fromkeys(("P1", "P2", "P3"), "done")

    @pytest.mark.parametrize("given", ["folder", "file"])
    def test_results_never_replace_inputs(self, model, images, given):
        before = (images / "P1.nii.gz").read_bytes()
        with pytest.raises(InputError, match="could replace them") as caught:
            predict(model, images if given == "folder" else [images / "P1.nii.gz"], images)
        assert caught.value.code == "E809" and (images / "P1.nii.gz").read_bytes() == before


class TestFailures:
    def test_a_broken_case_never_stops_the_others(self, model, images, tmp_path):
        (images / "P0.nii.gz").write_bytes((images / "P1.nii.gz").read_bytes()[:50])
        write_volume(images / "P4.nii.gz", box_volume(value=np.nan))
        events = Events()
        results = predict(model, images, tmp_path / "out", report=events)
        assert statuses(results) == {"P0": "failed", "P1": "done", "P2": "done", "P3": "done", "P4": "failed"}
        (batch,) = [warning for warning in events.of("warning") if warning["code"] == "E509"]
        assert batch["message"] == "3 done, 2 failed (P0: E311, P4: E309)."
        cases = {event["id"]: event for event in events.of("case")}
        assert cases["P0"]["status"] == "failed" and "P0" in cases["P0"]["reason"]
        assert not list((tmp_path / "out").glob("P0*.nrrd"))
        write_volume(images / "P0.nii.gz", box_volume())
        again = predict(model, images, tmp_path / "out")
        assert statuses(again)["P0"] == "done" and statuses(again)["P1"] == "skipped"
        assert summary(again) == "4 done (3 of them before), 1 failed (P4: E309)."

    def test_a_volume_that_does_not_fit_the_memory_never_stops_the_others(self, model, images, tmp_path, monkeypatch):
        segment = Segmenter.segment

        def scarce(self, volume, *arguments):
            if volume.array.shape[0] == 9:
                raise MemoryError
            return segment(self, volume, *arguments)

        monkeypatch.setattr(Segmenter, "segment", scarce)
        results = predict(model, images, tmp_path / "out")
        assert statuses(results) == {"P1": "done", "P2": "done", "P3": "failed"} and results[2].code == "E310"

    def test_a_defect_of_ours_is_logged_with_its_traceback(self, model, images, tmp_path, monkeypatch, caplog):
        segment = Segmenter.segment

        def defect(self, volume, *arguments):
            if volume.array.shape[0] == 9:
                raise ZeroDivisionError("a slip")
            return segment(self, volume, *arguments)

        monkeypatch.setattr(Segmenter, "segment", defect)
        results = predict(model, images, tmp_path / "out")
        assert statuses(results) == {"P1": "done", "P2": "done", "P3": "failed"}
        assert results[2].code == "E502" and "ZeroDivisionError" in results[2].reason
        assert "Traceback" in caplog.text and "a slip" in caplog.text

    def test_an_empty_result_is_written_and_said(self, model, tmp_path):
        write_volume(tmp_path / "in" / "P1.nii.gz", box_volume(value=0.2))
        events = Events()
        (result,) = predict(model, tmp_path / "in", tmp_path / "out", report=events)
        assert result.status == "done" and result.volumes_ml == {"left atrium": 0.0}
        assert [warning["code"] for warning in events.of("warning")] == ["E506"]
        assert not read_labels(tmp_path / "out" / "P1.seg.nrrd")[0].array.any()

    def test_a_full_disk_stops_everything(self, model, images, tmp_path, monkeypatch):
        def full(*_):
            raise InputError("The disk is full.", code="E807")

        monkeypatch.setattr(predict_module, "write_labels", full)
        with pytest.raises(InputError, match="disk is full"):
            predict(model, images, tmp_path / "out")

    def test_nothing_to_segment(self, model, tmp_path):
        (tmp_path / "in").mkdir()
        with pytest.raises(InputError) as caught:
            predict(model, tmp_path / "in", tmp_path / "out")
        assert caught.value.code == "E311"
        with pytest.raises(InputError) as caught:
            predict(model, tmp_path / "nowhere", tmp_path / "out")
        assert caught.value.code == "E311"

    def test_a_folder_that_cannot_be_written_is_found_before_the_work(self, model, images, tmp_path):
        (tmp_path / "out").write_text("a file")
        events = Events()
        with pytest.raises(InputError) as caught:
            predict(model, images, tmp_path / "out", report=events)
        assert caught.value.code == "E809" and not events.of("progress")

    def test_a_model_that_is_not_ours(self, images, tmp_path):
        (tmp_path / "model.pt").write_text("hello")
        with pytest.raises(InputError) as caught:
            predict(tmp_path / "model.pt", images, tmp_path / "out")
        assert caught.value.code == "E403"


class TestStop:
    def test_a_stop_ends_the_case_at_hand_and_leaves_nothing_of_it(self, model, images, tmp_path):
        out, asked = tmp_path / "out", []

        def after_the_first_case():
            asked.append(1)
            return bool(list(out.glob("P1.prediction.json"))) and len(asked) > 3

        results = predict(model, images, out, should_stop=after_the_first_case)
        assert statuses(results) == {"P1": "done"}
        assert not list(out.glob("P2*")) and not list(out.glob("P3*"))
        assert statuses(predict(model, images, out)) == {"P1": "skipped", "P2": "done", "P3": "done"}

    def test_it_is_asked_after_every_batch_of_windows(self, model, images, tmp_path):
        asked = []
        options = SegmentOptions(stride=(2, 2, 2), batch_windows=1)
        results = predict(
            model,
            [images / "P1.nii.gz"],
            tmp_path / "out",
            options,
            should_stop=lambda: asked.append(1) or len(asked) > 5,
        )
        assert results == [] and len(asked) == 6 and not list((tmp_path / "out").iterdir())


class TestProgressAndShards:
    def test_progress_has_rate_and_remaining_time(self, model, images, tmp_path):
        events = Events()
        predict(model, images, tmp_path / "out", report=events)
        told = events.of("progress")
        done = [event["done"] for event in told]
        assert done[0] == 0 and done[-1] == 3 == told[-1]["total"] and done == sorted(done)
        assert told[0]["eta_s"] is None and told[-1]["eta_s"] == 0.0 and told[-1]["rate_per_s"] > 0
        json.dumps(told)

    def test_skipped_cases_do_not_promise_a_fast_rest(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(predict_module.time, "monotonic", lambda: now[0])
        events = Events()
        clock = predict_module._Clock(events, 4)
        clock.case_done(worked=False)
        clock.case_done(worked=False)
        now[0] += 10
        clock.case_done(worked=True)
        assert events.of("progress")[-1]["eta_s"] == pytest.approx(10.0)

    def test_ranks_share_the_cases_and_leave_one_record_each(self, model, images, tmp_path):
        out = tmp_path / "out"
        parts = [predict(model, images, out, rank=rank, world_size=2) for rank in range(2)]
        assert [[result.id for result in part] for part in parts] == [["P1", "P3"], ["P2"]]
        assert statuses(read_results(out)) == {"P1": "done", "P2": "done", "P3": "done"}

    def test_all_ranks_hear_what_one_found(self, model, images, tmp_path, monkeypatch):
        """Rank 0 tells what it is not told itself, in the order of the cases; what an earlier run left in the folder is not part of it."""
        (images / "P2.nrrd").write_bytes(b"no volume")
        predict(model, [images / "P1.nii.gz"], tmp_path / "out")
        (tmp_path / "out" / "P1.prediction.json").rename(tmp_path / "out" / "P0.prediction.json")
        options, events = SegmentOptions(), Events()
        others = [asdict(result) for result in predict(model, images, tmp_path / "out", options, rank=1, world_size=2)]
        monkeypatch.setattr(predict_module, "gather", lambda mine: [mine, {"results": others, "refusal": None}])
        found = predict_shares(World(0, 2), model, images, tmp_path / "out", options, events)
        assert [(result.id, result.status) for result in found] == [("P1", "done"), ("P2", "failed"), ("P3", "done")]
        assert [(case["id"], case["status"]) for case in events.of("case")] == [("P1", "done"), ("P3", "done"), ("P2", "failed")]
        (warning,) = [values for values in events.of("warning") if values["code"] == "E509"]
        assert "2 done, 1 failed" in warning["message"]

    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_disk_that_is_full_for_one_rank_ends_all(self, rank, model, images, tmp_path, monkeypatch):
        def full(*_, **__):
            raise InputError("The disk is full.", code="E807", path=tmp_path)

        def gather(mine):
            share = {"results": [], "refusal": {"message": "The disk is full.", "code": "E807", "hint": "", "path": str(tmp_path)}}
            return [share, mine] if rank else [mine, share]

        monkeypatch.setattr(predict_module, "gather", gather)
        with pytest.raises(InputError) as raised:
            predict_shares(World(rank, 2), model, images, tmp_path / "out", SegmentOptions(), Events())
        assert (raised.value.code, raised.value.path) == ("E807", tmp_path)
        monkeypatch.setattr(predict_module, "predict", full)
        with pytest.raises(InputError, match="E807"):
            predict_shares(World(), model, images, tmp_path / "out", SegmentOptions(), Events())

    def test_a_rank_without_work_is_content(self, model, images, tmp_path):
        assert predict(model, images, tmp_path / "out", rank=5, world_size=7) == []


def test_prediction_needs_no_method_and_no_training():
    engine = Path(predict_module.__file__).parents[1]
    program = (
        f"import sys; sys.path.insert(0, {str(engine)!r}); import semiseg.predict, semiseg.inference.segmenter; "
        "print([m for m in sys.modules if m.startswith(('semiseg.methods', 'semiseg.training', 'semiseg.losses', "
        "'SimpleITK', 'pydicom', 'highdicom', 'matplotlib', 'h5py'))])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
