"""The list of models: cards, adding, removing, checking, handing on, downloading; every message about a model, provoked."""

import functools
import hashlib
import http.server
import json
import pickle
import re
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import qt
import slicer
from bed import boot, dialogs, user
from segment_builders import REPOSITORY, Panel, install_stub, make_volume, write_model

from TransMedSegLib import CaseTable, ModelList
from TransMedSegLib.ModelCard import cardOf
from TransMedSegLib.ModelDownload import ModelDownload
from TransMedSegLib.ModelFile import ModelRefused, hashOf, readCard

SETTINGS = (ModelList.FOLDER_SETTING, ModelList.OTHERS_SETTING, ModelList.LAST_SETTING, "TransMedSeg/AgreedModels", "TransMedSeg/SecondsPerMegavoxel")
SCORES = {"left atrium": {"dice": {"mean": 0.8912, "sd": 0.02, "count": 10}}}

DOWNLOAD_DELETED = "The downloaded file is damaged or was changed (its hash does not match). It was deleted."


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """An empty models folder, and a computer that knows no model."""
    for key in SETTINGS:
        qt.QSettings().remove(key)
    ModelList.setModelsFolder(tmp_path / "models")
    yield tmp_path / "models"
    for key in SETTINGS:
        qt.QSettings().remove(key)


@pytest.fixture
def panel(tmp_path):
    install_stub(tmp_path)
    one = Panel()
    yield one
    one.close()


@pytest.fixture
def dialog(panel):
    panel.ui.manageButton.click()
    return panel.segment.models.dialog


def said(panel):
    return panel.segment.notice.message


def read(dialog):
    """The card that is shown, by its first words."""
    return dict(line.split(": ", 1) for line in dialog.ui.cardText.toPlainText().splitlines())


def code_of(path):
    with pytest.raises(ModelRefused) as refused:
        readCard(path)
    return refused.value.code, str(refused.value)


# Reading without running


class Dangerous:
    def __reduce__(self):
        return eval, ("open('/nowhere', 'w')",)


NOT_OURS = "This file is not a TransMedSeg model, or it contains code. It was not opened."


def test_E403_a_file_with_code_in_it_is_refused_and_nothing_of_it_runs(tmp_path):
    assert code_of(write_model(tmp_path / "model.pt", weights={"w": Dangerous()})) == ("E403", NOT_OURS)


def test_E403_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"card": "{}"}))
    assert code_of(path)[0] == "E403"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"card": json.dumps({"format": "another"})}, protocol=2))
    assert code_of(path)[0] == "E403"
    whole = write_model(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert code_of(path)[0] == "E403"


def test_E403_whatever_is_wrong_with_a_file_it_is_refused_with_words(tmp_path):
    """Bytes of the index changed at random; the archive itself is in order."""
    import random

    with zipfile.ZipFile(write_model(tmp_path / "model.pt", weights={"w": [1.5, 2, "three"]})) as archive:
        good = archive.read("archive/data.pkl")
    chance, refused = random.Random(0), 0
    for _ in range(300):
        data = bytearray(good[: chance.choice((len(good), chance.randrange(len(good))))])
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
            archive.writestr("archive/data.pkl", bytes(data))
        try:
            cardOf(tmp_path / "bad.pt").lines()
        except ModelRefused as refusal:
            refused += refusal.code in ("E403", "E404")
    assert refused > 100


@pytest.mark.parametrize("fields", [{"labels": ["left atrium"]}, {"training": {"cases": [1]}}, {"network": None}, {"training": "long"}])
def test_E403_a_card_with_parts_of_another_kind(tmp_path, fields):
    assert code_of(write_model(tmp_path / "model.pt", **fields))[0] == "E403"


def test_what_a_stranger_wrote_beside_a_model_does_no_harm(panel, tmp_path):
    path = write_model(tmp_path / "model.pt", name="<b>big</b>", spacing_range_mm="wide")
    (tmp_path / "model-card.json").write_text(json.dumps({"scores": {"left atrium": [1]}, "license": ["a"], "sha256": 7}))
    panel.segment.models.choose(path)
    assert panel.ui.modelCardLabel.text.endswith("research use")
    assert "&lt;b&gt;big&lt;/b&gt;" in panel.ui.modelCardLabel.toolTip


def test_E404_a_model_of_a_newer_format(tmp_path):
    from semiseg import __version__

    path = write_model(tmp_path / "model.pt", format_version=2, semiseg_version="9.4")
    assert code_of(path) == ("E404", f"This model needs TransMedSeg 9.4; you have {__version__}.")


def test_the_window_and_the_engine_agree_on_the_format():
    engine = (REPOSITORY / "TransMedSeg" / "semiseg" / "inference" / "model_file.py").read_text()
    from TransMedSegLib import ModelFile

    assert f'FORMAT = "{ModelFile.FORMAT}"\nFORMAT_VERSION = {ModelFile.FORMAT_VERSION}\n' in engine


# The card


def test_the_card_says_in_plain_words_what_the_model_is(panel, dialog, tmp_path):
    path = write_model(tmp_path / "given" / "model.pt", license="CC BY-NC 4.0", convention="veins cut at 10 mm")
    (path.parent / "result.json").write_text(json.dumps({"scores": SCORES}))
    assert user.drop_files(dialog.ui.modelList, [path])
    card = read(dialog)
    assert card["Trained on"] == "4 labeled and 16 unlabeled volumes (transmedseg plus)"
    assert card["Spacing of these"] == "0.6 to 2.5 mm"
    assert card["Finds"] == "left atrium"
    assert card["Quality"] == "left atrium: Dice 0.89 on 10 cases"
    assert card["Veins"] == "veins cut at 10 mm"
    assert card["License"] == "CC BY-NC 4.0"
    assert card["Use"] == "Research use only. Not a medical device."
    assert card["SHA-256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path / "models") in card["File"]
    assert panel.ui.modelCardLabel.text.endswith("Dice 0.89 on 10 cases · CC BY-NC 4.0 · research use")


def test_what_is_not_known_is_said_and_can_be_written_on_the_card(dialog, tmp_path):
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    card = read(dialog)
    assert card["Quality"] == "not measured on held-out volumes"
    assert card["License"] == "not stated; ask its author"
    assert card["Veins"].startswith("not stated; veins and mitral plane are cut where the training labels cut them")
    dialog.ui.licenseLineEdit.text = "CC BY 4.0"
    dialog.ui.conventionLineEdit.text = "at the ostium"
    dialog.ui.conventionLineEdit.editingFinished.emit()
    assert (read(dialog)["License"], read(dialog)["Veins"]) == ("CC BY 4.0", "at the ostium")
    assert cardOf(dialog.chosen).license == "CC BY 4.0"


def test_few_cases_are_called_few(tmp_path):
    path = write_model(tmp_path / "model.pt")
    (tmp_path / "result.json").write_text(json.dumps({"scores": {"left atrium": {"dice": {"mean": 0.9, "count": 2}}}}))
    assert dict(cardOf(path).lines())["Quality"] == "left atrium: Dice 0.90 on 2 cases (too few to be sure)"


# Adding, removing, handing on


def test_a_folder_with_models_is_dropped_and_what_is_none_is_named(panel, dialog, folder, tmp_path):
    given = tmp_path / "given"
    write_model(given / "a" / "model.pt", name="first")
    write_model(given / "b" / "other.pt", name="second")
    (given / "b" / "resume.pt").write_bytes(b"state of a training")
    (given / "c.pt").write_bytes(b"no model")
    assert user.drop_files(dialog.ui.modelList, [given])
    assert [cardOf(path).name for path in ModelList.models()] == ["first", "second"]
    assert dialog.notice.message == f"c.pt: {NOT_OURS} [E403]"
    assert [panel.ui.modelComboBox.itemText(index) for index in range(2)] == ["first", "second"]
    assert not [one for one in folder.iterdir() if one.name.startswith(".")], "nothing half-made is left"
    dialog.add([tmp_path / "empty"])
    assert dialog.notice.message == "No model was found in empty."


def test_the_same_model_is_not_copied_twice(dialog, tmp_path):
    path = write_model(tmp_path / "given" / "model.pt")
    dialog.add([path, shutil.copy(path, tmp_path / "again.pt")])
    assert len(ModelList.models()) == 1


def test_a_copy_of_a_model_of_a_training_takes_its_place_and_needs_no_consent(panel, dialog, tmp_path):
    path = write_model(tmp_path / "run" / "model.pt")
    (path.parent / "job.json").write_text("{}")
    panel.segment.models.choose(path)
    assert ModelList.models() == [path]
    dialog.add([path])
    assert ModelList.models() == [dialog.chosen] and dialog.chosen != path and path.exists()
    assert panel.segment.model == dialog.chosen and ModelList.hasAgreed(hashOf(path))


def test_removing_asks_and_deletes_only_what_is_in_the_models_folder(panel, dialog, tmp_path):
    outside = write_model(tmp_path / "run" / "model.pt", name="of a run")
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    copied = dialog.chosen
    panel.segment.models.choose(outside)
    dialog.fill(copied)
    dialogs.answers["confirmYesNoDisplay"] = [False, True]
    dialog.ui.removeModelButton.click()
    assert copied.exists()
    dialog.ui.removeModelButton.click()
    assert not copied.parent.exists()
    assert dialog.chosen == outside
    panel.segment.models.choose(write_model(tmp_path / "run2" / "model.pt"))
    dialog.fill(outside)
    dialog.ui.removeModelButton.click()
    assert outside.exists() and outside not in ModelList.models()


def test_an_exported_model_comes_in_on_another_computer_by_dropping_it_on_the_panel(panel, dialog, folder, tmp_path):
    path = write_model(tmp_path / "run" / "model.pt", name="LA-MRI")
    (path.parent / "result.json").write_text(json.dumps({"scores": SCORES}))
    dialog.add([path])
    dialog.ui.licenseLineEdit.text = "CC BY 4.0"
    dialog.ui.licenseLineEdit.editingFinished.emit()
    dialogs.answers["getSaveFileName"] = [str(tmp_path / "LA-MRI.zip")]
    dialog.ui.exportModelButton.click()
    with zipfile.ZipFile(tmp_path / "LA-MRI.zip") as archive:
        assert sorted(archive.namelist()) == ["model-card.json", "model.pt", "sha256.txt"]
    first = cardOf(dialog.chosen)
    ModelList.setModelsFolder(tmp_path / "another computer")
    assert user.drop_files(panel.ui.modelComboBox, [tmp_path / "LA-MRI.zip"])
    second = cardOf(panel.segment.model)
    assert second.path.parent.parent == tmp_path / "another computer"
    assert hashOf(second.path) == hashOf(path)
    assert (second.license, second.dice) == ("CC BY 4.0", {"left atrium": (0.8912, 10)})
    assert second.lines()[:8] == first.lines()[:8]


def test_an_archive_made_from_a_run_folder_holds_its_dice(dialog, tmp_path):
    run = write_model(tmp_path / "run" / "model.pt").parent
    (run / "result.json").write_text(json.dumps({"scores": SCORES}))
    ModelList.export(run / "model.pt", tmp_path / "run.zip")
    dialog.add([tmp_path / "run.zip"])
    assert cardOf(dialog.chosen).dice == {"left atrium": (0.8912, 10)}


def damaged_archive(path, tmp_path):
    """An archive with the hash of another model."""
    ModelList.export(write_model(tmp_path / "run" / "model.pt"), tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(path, "w") as bad:
        write_model(tmp_path / "changed.pt", name="changed")
        bad.write(tmp_path / "changed.pt", "model.pt")
        bad.writestr("sha256.txt", good.read("sha256.txt"))


def test_E402_an_archive_whose_hash_differs_is_not_taken(dialog, folder, tmp_path):
    damaged_archive(tmp_path / "bad.zip", tmp_path)
    dialog.add([tmp_path / "bad.zip"])
    assert dialog.notice.message == "bad.zip: The model file is damaged or was changed (its hash does not match). It was not used. [E402]"
    assert ModelList.models() == [] and list(folder.iterdir()) == [] and (tmp_path / "bad.zip").is_file()


def test_verify_says_whether_the_file_is_as_it_was_added(dialog, tmp_path):
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    dialog.ui.verifyModelButton.click()
    assert dialog.notice.message == f"The file is as it was added: {hashOf(dialog.chosen)}"
    write_model(dialog.chosen, name="changed")
    dialog.ui.verifyModelButton.click()
    assert dialog.notice.message.endswith("It was not used. [E402]")


def test_the_folder_of_a_model_can_be_opened_and_another_one_chosen(dialog, tmp_path):
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    dialog.ui.openModelFolderButton.click()
    assert dialogs.shown[-1].text == qt.QUrl.fromLocalFile(str(dialog.chosen.parent)).toString()
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "elsewhere")]
    dialog.ui.modelsFolderButton.click()
    assert ModelList.modelsFolder() == tmp_path / "elsewhere" and dialog.chosen is None
    assert not dialog.ui.verifyModelButton.enabled and dialog.ui.verifyModelButton.toolTip == "Choose a model first"


# Which one is chosen, and whether it may be used


def test_the_last_used_model_is_chosen_first(panel, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text("{}")
        panel.segment.models.choose(write_model(tmp_path / name / "model.pt", name=name))
    panel.add(make_volume("P001"))
    panel.segment.models.choose(tmp_path / "a" / "model.pt")
    assert panel.segment_this()
    panel.segment.models.choose(tmp_path / "b" / "model.pt")
    panel.representation.exit()
    slicer.mrmlScene.Clear()
    panel.representation.enter()
    assert panel.ui.modelComboBox.currentText == "a · a"
    assert panel.segment.model == tmp_path / "a" / "model.pt"


def test_the_model_of_a_training_comes_onto_the_list(panel, tmp_path):
    """As "Use this model" of the training module does it: the parameter of the scene is set."""
    run = tmp_path / "2026-11-21_10-00"
    write_model(run / "model.pt")
    (run / "job.json").write_text("{}")
    slicer.util.getModuleLogic("TransMedSeg").getParameterNode().modelPath = run / "model.pt"
    boot.process_events(1, until=lambda: panel.ui.modelComboBox.currentText != "")
    assert panel.ui.modelComboBox.currentText == "LA-MRI · 2026-11-21_10-00"
    assert ModelList.models() == [run / "model.pt"]


def test_E406_the_terms_are_asked_for_once_for_each_model(panel, dialog, tmp_path):
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    case = panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == "This model may be used for non-commercial research only. [E406]"
    panel.segment.notice.buttons["Cancel"].click()
    assert case.status == CaseTable.TO_DO and not panel.segment.isRunning
    panel.ui.segmentButton.click()
    panel.segment.notice.buttons["I agree"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED
    assert panel.segment_this() and said(panel) == ""
    dialog.add([write_model(tmp_path / "other" / "model.pt", name="another")])
    panel.ui.segmentButton.click()
    assert said(panel).endswith("[E406]")


def test_E402_a_model_that_was_changed_since_it_was_added_does_not_segment(panel, dialog, tmp_path):
    dialog.add([write_model(tmp_path / "given" / "model.pt")])
    write_model(dialog.chosen, name="changed")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == "The model file is damaged or was changed (its hash does not match). It was not used. [E402]"
    assert not panel.segment.isRunning


@pytest.mark.parametrize(("fields", "code"), [({"format_version": 2}, "E404"), ({"format": "another"}, "E403")])
def test_E403_E404_what_cannot_be_read_does_not_start_the_engine(panel, tmp_path, fields, code):
    panel.segment.models.choose(write_model(tmp_path / "model.pt", **fields))
    assert panel.ui.modelCardLabel.text.endswith(f"[{code}]")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel).endswith(f"[{code}]") and not panel.segment.isRunning


def test_E405_the_models_lie_elsewhere_now(panel, tmp_path):
    path = write_model(tmp_path / "drive E" / "model.pt")
    (path.parent / "job.json").write_text("{}")
    panel.segment.models.choose(path)
    path.parent.rename(tmp_path / "drive F")
    case = panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == f"The model folder {path.parent} is not available. [E405]"
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "drive F")]
    panel.segment.notice.buttons["Choose folder…"].click()
    assert panel.segment_this() and case.status == CaseTable.PREDICTED


def test_E401_a_model_whose_file_is_gone_names_where_it_came_from(panel, dialog, tmp_path):
    path = ModelList.add(write_model(tmp_path / "given" / "model.pt"), url="https://example.org/LA.zip")
    panel.segment.models.choose(path)
    path.unlink()
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == "This model is not on this computer. Download it on another computer and add it from its file. Link: https://example.org/LA.zip [E401]"
    panel.segment.notice.buttons["Download again…"].click()
    assert dialog.ui.urlLineEdit.text == "https://example.org/LA.zip"
    assert not dialog.download.download.isRunning, "nothing is downloaded before the user asks for it"


def test_E307_a_volume_unlike_those_of_the_training_is_asked_about(panel, tmp_path):
    (tmp_path / "job.json").write_text("{}")
    panel.segment.models.choose(write_model(tmp_path / "model.pt", spacing_range_mm=[[0.6, 0.6, 0.6], [1.3, 0.7, 0.7]]))
    case = panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == "This model was trained on 0.6–1.3 mm; 'P001' has 0.9×1.1×2.5 mm. Expect poor results. [E307]"
    assert list(panel.segment.notice.buttons) == ["Continue", "Choose another model"]
    panel.segment.notice.buttons["Continue"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED


@pytest.mark.parametrize(
    ("intensity", "lowest", "text"),
    [
        ("zscore", -1024, "'P001' looks like CT (values from -1024); the model is for MRI. [E308]"),
        ("window", 0, "'P001' looks like MRI (no values below 0); the model is for CT. [E308]"),
        ("zscore", -4, ""),
        ("window", -1024, ""),
        (None, -1024, ""),
    ],
)
def test_E308_a_volume_of_the_other_kind_is_asked_about(panel, tmp_path, intensity, lowest, text):
    (tmp_path / "job.json").write_text("{}")
    panel.segment.models.choose(write_model(tmp_path / "model.pt", preprocessing={"spacing_mm": None, "intensity": intensity}))
    volume = make_volume("P001")
    slicer.util.arrayFromVolume(volume)[0, 0, 0] = lowest
    slicer.util.arrayFromVolumeModified(volume)
    case = panel.add(volume)
    panel.ui.segmentButton.click()
    assert said(panel) == text
    if text:
        assert list(panel.segment.notice.buttons) == ["Continue", "Choose another model"]
        panel.segment.notice.buttons["Continue"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED


def test_E404_names_what_is_needed(panel, dialog, tmp_path):
    dialog.add([write_model(tmp_path / "model.pt", format_version=3, semiseg_version="1.4")])
    assert "model.pt: This model needs TransMedSeg 1.4; you have " in dialog.notice.message


# Downloading


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `slow` writes a little and then waits."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            self.wfile.flush()
            self.server.release.wait(20)
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(served)))
    server.release = threading.Event()
    server.folder, server.url = served, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    qt.QSettings().setValue("TransMedSeg/Python", sys.executable)
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def download(dialog, url, sha256=""):
    ui = dialog.ui
    ui.urlLineEdit.text, ui.hashLineEdit.text = url, sha256
    assert ui.downloadButton.enabled, ui.downloadButton.toolTip
    ui.downloadButton.click()
    assert not ui.downloadButton.enabled and ui.downloadButton.toolTip == "A download is running"
    return boot.process_events(120, until=lambda: not dialog.download.download.isRunning and ui.downloadButton.toolTip != "A download is running")


def test_a_model_is_downloaded_checked_and_chosen(panel, dialog, server, folder, tmp_path):
    path = write_model(server.folder / "LA.pt")
    assert download(dialog, f"{server.url}/LA.pt", hashOf(path))
    assert dialog.notice.message == ""
    assert hashOf(panel.segment.model) == hashOf(path)
    assert cardOf(panel.segment.model).beside["url"] == f"{server.url}/LA.pt"
    assert not list(folder.glob(".*"))


def test_an_archive_may_come_from_a_file_address_and_a_missing_hash_is_said(panel, dialog, server, tmp_path):
    ModelList.export(write_model(tmp_path / "run" / "model.pt"), tmp_path / "LA.zip")
    assert download(dialog, (tmp_path / "LA.zip").as_uri())
    assert dialog.notice.message == "Downloaded. No SHA-256 was given: compare the one on the card with what the author states."
    assert panel.segment.model is not None


def test_E402_a_download_with_another_hash_is_not_kept(panel, dialog, server, folder):
    write_model(server.folder / "LA.pt")
    assert download(dialog, f"{server.url}/LA.pt", "0" * 64)
    assert dialog.notice.message == f"{DOWNLOAD_DELETED} [E402]"
    assert list(dialog.notice.buttons) == ["Download again"]
    assert ModelList.models() == [] and list(folder.iterdir()) == []


def test_E402_a_downloaded_archive_whose_own_hash_differs_is_deleted(dialog, server, folder, tmp_path):
    damaged_archive(server.folder / "bad.zip", tmp_path)
    assert download(dialog, f"{server.url}/bad.zip")
    assert dialog.notice.message == f"{DOWNLOAD_DELETED} [E402]"
    assert list(folder.iterdir()) == []


def test_E402_a_download_is_gone_before_it_is_said_to_be(server, folder):
    """What is said comes after what was done, so that it is true also where the file cannot be deleted."""
    write_model(server.folder / "LA.pt")
    left = []
    one = ModelDownload(lambda done, total: None, None, lambda code, text: left.append((code, text, list(folder.iterdir()))))
    one.start(f"{server.url}/LA.pt", "0" * 64)
    assert boot.process_events(120, until=lambda: left)
    assert left == [("E402", DOWNLOAD_DELETED, [])]


def test_E402_a_download_that_cannot_be_deleted_is_named(dialog, server, folder, monkeypatch):
    write_model(server.folder / "LA.pt")
    unlink = Path.unlink

    def held(path, *arguments, **options):
        if path.suffix == ".part":
            raise PermissionError(13, "used by another program")
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", held)
    assert download(dialog, f"{server.url}/LA.pt", "0" * 64)
    (part,) = folder.iterdir()
    text = "The model file is damaged or was changed (its hash does not match). It was not used."
    assert dialog.notice.message == f"{text} It could not be deleted: {part} [E402]"


def test_E402_a_file_of_the_user_s_own_stays_where_it_is(dialog, folder, tmp_path):
    mine = write_model(tmp_path / "mine.pt")
    qt.QSettings().setValue("TransMedSeg/Python", sys.executable)
    assert download(dialog, mine.as_uri(), "0" * 64)
    assert dialog.notice.message == "The model file is damaged or was changed (its hash does not match). It was not used. [E402]"
    assert mine.is_file() and list(folder.iterdir()) == []


def test_E401_no_network_names_the_link(dialog, server, folder):
    server.shutdown()
    server.server_close()
    url = f"{server.url}/LA.pt"
    assert download(dialog, url)
    assert dialog.notice.message == f"This model is not on this computer. Download it on another computer and add it from its file. Link: {url} [E401]"
    assert list(folder.iterdir()) == []


def test_E403_a_downloaded_page_is_no_model(dialog, server, folder):
    (server.folder / "login.html").write_text("<html>please log in</html>")
    assert download(dialog, f"{server.url}/login.html")
    assert dialog.notice.message == f"{NOT_OURS} [E403]"
    assert list(folder.iterdir()) == []


def test_a_download_can_be_cancelled_and_leaves_nothing(dialog, server, folder):
    ui = dialog.ui
    ui.urlLineEdit.text = f"{server.url}/slow"
    ui.downloadButton.click()
    assert boot.process_events(120, until=lambda: any(part.exists() and part.stat().st_size for part in folder.glob("*.part")) or ui.downloadLabel.text)
    assert not ui.cancelDownloadButton.isHidden()
    ui.cancelDownloadButton.click()
    assert boot.process_events(120, until=lambda: ui.downloadLabel.text == "Cancelled.")
    assert boot.process_events(120, until=lambda: ui.downloadButton.enabled)
    assert list(folder.iterdir()) == [] and dialog.notice.message == ""


def test_an_address_and_a_hash_are_looked_at_before_the_network(dialog):
    ui = dialog.ui
    for url, sha256, tip in (("", "", "Type an address"), ("C:/model.pt", "", "Type an address"), ("https://example.org/a", "12", "A SHA-256 has 64 digits")):
        ui.urlLineEdit.text, ui.hashLineEdit.text = url, sha256
        assert not ui.downloadButton.enabled and ui.downloadButton.toolTip.startswith(tip)


# The buttons


def test_the_buttons_say_that_the_engine_is_not_set_up(panel, tmp_path, monkeypatch):
    from TransMedSegLib import SetupPage

    panel.choose_model(tmp_path)
    panel.add(make_volume("P001"))
    assert panel.ui.segmentButton.enabled
    qt.QSettings().remove("TransMedSeg/Python")
    monkeypatch.setattr(SetupPage, "allChecks", _without_packages(SetupPage.allChecks))
    panel.module.setupPage.start()
    for button in (panel.ui.segmentButton, panel.ui.segmentAllButton, panel.ui.sampleButton):
        assert not button.enabled
        assert button.toolTip.startswith("Not set up yet. ") and button.toolTip.endswith("Press Check… at the top.")
    monkeypatch.undo()
    install_stub(tmp_path)
    panel.module.setupPage.start()
    assert panel.ui.segmentButton.enabled and panel.ui.sampleButton.enabled


def _without_packages(original):
    from TransMedSegLib.EngineSetup import Check, Level

    return lambda *given: [*original(*given)[:-1], Check("packages", "Packages", Level.Bad, "to be installed: torch>=2.4")]


def test_the_time_of_a_case_is_told_once_it_was_measured(panel, tmp_path):
    install_stub(tmp_path, delay=1.5)
    panel.choose_model(tmp_path)
    panel.add(make_volume("P001"))
    panel.add(make_volume("P002", seed=1))
    panel.add(make_volume("P003", seed=2))
    assert "about" not in panel.ui.modelCardLabel.text + panel.ui.segmentAllButton.toolTip
    assert panel.segment_this()
    assert re.search(r"research use · about \d+ s for this case$", panel.ui.modelCardLabel.text)
    assert re.fullmatch(r"Segment 2 cases: about \d+ s", panel.ui.segmentAllButton.toolTip)


def test_a_case_is_timed_by_the_events_of_the_engine_without_its_start(tmp_path):
    from TransMedSegLib import CaseTime

    clock = CaseTime.CaseClock()
    events = (("started", 100.0, ""), ("progress", 110.0, ""), ("progress", 112.0, ""), ("case", 120.0, "done"), ("progress", 120.1, ""), ("case", 123.0, "failed"), ("case", 128.0, "done"))
    heard = [clock.hear({"kind": kind, "time": time, "status": status}) for kind, time, status in events]
    assert heard == [None, None, None, 10.0, None, None, 5.0]
    path, small, large = write_model(tmp_path / "model.pt"), make_volume("small"), make_volume("large", shape=(24, 20, 24))
    CaseTime.remember(path, "cpu", small, 30.0)
    assert CaseTime.estimate(path, "cpu", [small, large]) == pytest.approx(90.0)
    assert CaseTime.estimate(path, "cuda:0", [small]) is None
    assert CaseTime.estimateText(path, "cpu", [small, large]) == "about 1 min 30 s"


# Every code of these files


def test_every_code_about_models_is_provoked_here():
    library = Path(ModelList.__file__).parent
    named = {code for path in library.glob("Model*.py") for code in re.findall(r'"(E\d{3})"', path.read_text())}
    tests = Path(__file__).read_text() + Path(__file__).with_name("test_segment_messages.py").read_text()
    assert named - {"E105"} - set(re.findall(r"def test_\w*?(E\d{3})", tests)) - set(re.findall(r"_(E\d{3})_", tests)) == set()
    assert {f"E40{number}" for number in range(1, 7)} <= named
