# ruff: noqa: F811 (fixtures are imported)
"""What is said while a training runs: one sentence from its curves, and curves that begin one after another."""

import json
import os
import time

import pytest
import slicer
from bed import boot
from train_bed import module, panel, ready, stub, until  # noqa: F401 (fixtures)

from semiseg import protocol
from TransMedSegLib.RunAdvice import RunAdvice
from TransMedSegLib.RunCurves import RunCurves
from TransMedSegLib.RunState import RunReader


def said(dices):
    advice = RunAdvice()
    for number, dice in enumerate(dices, 1):
        advice.add("validation_dice", dice, 100 * number)
    return advice.sentence()


def test_advice_follows_the_validation_dice():
    assert said([0.5]) == ""
    assert said([0.5, 0.6, 0.7]) == "Improving."
    assert said([0.5, 0.7, 0.7, 0.699, 0.7]) == "No gain for 300 iterations: stopping would be fine."
    assert said([0.5, 0.8, 0.79, 0.78]) == "Improving.", "two worse validations are no trend yet"


def test_before_the_last_stage_nobody_is_told_to_stop(ready):
    """A training that first learns from the labels alone has its unlabeled volumes still to come."""
    scores = [{"kind": "scalar", "name": "validation_dice", "value": dice, "step": 100 * number} for number, dice in enumerate([0.5, 0.8, 0.76, 0.75, 0.74], 1)]
    ready.view.hear([{"kind": "stage", "name": "pretrain", "iteration": 0, "total": 1000}, *scores])
    assert ready.ui.stateLabel.text == "No gain for 300 iterations; the next stage is still to come."
    ready.view.hear([{"kind": "stage", "name": "self_train", "iteration": 500, "total": 1000}, {**scores[-1], "step": 600}])
    assert ready.ui.stateLabel.text.endswith("Stopping would be fine. [E811]")


def test_falling_validation_names_the_model_that_is_kept(ready):
    """E811 in the panel, from events of the engine."""
    events = [{"kind": "scalar", "name": "validation_dice", "value": dice, "step": 100 * number} for number, dice in enumerate([0.5, 0.8, 0.76, 0.75, 0.74], 1)]
    ready.view.hear(events)
    assert ready.ui.stateLabel.text == (
        "Validation has fallen since iteration 200; the model of iteration 200 (Dice 0.800) is kept. Stopping would be fine. [E811]"
    )


@pytest.mark.parametrize("name", ("loss_consistency", "loss_out", "loss_cross"))
def test_rising_loss_on_unlabeled_volumes_is_said_where_they_look_different(name):
    """The last two are what methods that mix volumes, the preset of every goal among them, and cross labeling call it."""
    advice = RunAdvice()
    for step in range(200):
        advice.add(name, 1.0 if step < 180 else 2.0, step)
    assert advice.sentence() == "", "it rises with volumes of one site as well"
    advice.hearOfDifferentVolumes()
    assert advice.sentence() == "The loss on unlabeled volumes rises: the unlabeled set may look different."


@pytest.mark.parametrize(("status", "isSaid"), [("used", True), ("refused", False)])
def test_only_different_volumes_in_use_can_be_the_reason(ready, tmp_path, status, isSaid):
    """E805 in the panel, from events of the engine; volumes that were left out mislead nobody."""
    ready.view.show(tmp_path / "run")
    losses = [{"kind": "scalar", "name": "loss_out", "value": 1.0 if step < 180 else 2.0, "step": step} for step in range(200)]
    ready.view.hear([{"kind": "case", "id": "U1", "status": "used", "reason": "", "code": ""}, *losses])
    assert "rises" not in ready.ui.stateLabel.text
    ready.view.hear([{"kind": "case", "id": "U2", "status": status, "reason": "This volume looks different.", "code": "E805"}, losses[-1]])
    assert ("the unlabeled set may look different" in ready.ui.stateLabel.text) == isSaid


# What keeps the window quick


def scalar(name, step):
    return {"kind": "scalar", "name": name, "value": 1.0, "step": step}


def test_curves_begin_one_in_a_turn_and_none_is_lost(ready, tmp_path):
    ready.view.show(tmp_path / "run")
    names = ("loss", "loss_a", "loss_b", "learning_rate")
    ready.view.hear([scalar(name, step) for step in (10, 20) for name in names], isLive=True)
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 1
    ready.view.hear([scalar(name, 30) for name in names], isLive=True)
    assert until(lambda: len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 4)  # one in a turn, however slow the turns are
    table = slicer.util.getNode("run Losses (numbers)")
    for column in ("iteration", "loss", "loss_a", "loss_b"):
        values = list(slicer.util.arrayFromTableColumn(table, column))
        assert values == ([10, 20, 30] if column == "iteration" else [1.0, 1.0, 1.0])
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 4


def test_curves_of_a_run_that_is_left_do_not_come_back(ready, tmp_path):
    ready.view.show(tmp_path / "run")
    ready.view.hear([scalar(name, 10) for name in ("loss", "loss_a")], isLive=True)
    ready.view.show(tmp_path / "other")
    boot.process_events(0.1)
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTableNode")]
    assert "other Losses (numbers)" not in names


def test_long_run_is_read_piece_by_piece(ready, tmp_path):
    """A run that is found again after hours: the whole file, in order, in more than one turn of the event loop."""
    run_dir = tmp_path / "runs" / "long"
    protocol.write_job(run_dir, protocol.Job("train", {"device": "cpu"}))
    lines = [json.dumps({**scalar("loss", step), "time": 0}) for step in range(3000)]
    (run_dir / protocol.EVENTS_FILE).write_text("\n".join(lines) + "\n")
    lock = {"pid": 1, "host": "elsewhere", "device": "cpu", "engine": "x", "version": "0.1.0"}
    (run_dir / protocol.LOCK_FILE).write_text(json.dumps(lock))
    os.utime(run_dir / protocol.LOCK_FILE, (time.time() + 3600,) * 2)  # nobody renews it
    ready.follow.open(run_dir)
    first = slicer.util.getNode("long Losses (numbers)").GetNumberOfRows()
    assert 0 < first < 3000
    assert until(lambda: slicer.util.getNode("long Losses (numbers)").GetNumberOfRows() == 3000)
    steps = slicer.util.arrayFromTableColumn(slicer.util.getNode("long Losses (numbers)"), "iteration")
    assert list(steps) == list(range(3000))
    ready.follow.process.letGo()


def test_line_longer_than_a_piece_is_read_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"kind": "state", "message": "x" * 500}) + "\n" + json.dumps({"kind": "state", "message": "y"}) + "\n")
    events, offset = protocol.read_events(path, 0, 100)
    assert [len(event["message"]) for event in events] == [500]
    assert [event["message"] for event in protocol.read_events(path, offset, 100)[0]] == ["y"]


def test_list_of_runs_reads_only_what_is_new(tmp_path, monkeypatch):
    protocol.write_job(tmp_path, protocol.Job("train", {"goal": "quick"}))
    reader, read, offsets = RunReader(tmp_path), protocol.read_events, []
    monkeypatch.setattr(protocol, "read_events", lambda path, offset=0, *rest: offsets.append(offset) or read(path, offset, *rest))
    report = protocol.EventWriter(tmp_path / protocol.EVENTS_FILE)
    report("scalar", name="validation_dice", value=0.7, step=10)
    assert reader.read().bestDice == 0.7
    report("progress", what="train", done=20, total=100)
    report("progress", what="train", done=7, total=50, stage="baseline")
    summary = reader.read()
    assert (summary.bestDice, summary.iteration, summary.goal) == (0.7, 20, "quick") and offsets[1] > offsets[0] == 0
    report("finished", result={})
    report.close()
    assert reader.read().state.name == "Finished"
    (tmp_path / protocol.EVENTS_FILE).write_text("")
    assert reader.read().state.name == "New", "another run took the folder"


def test_a_scalar_without_a_number_is_left_out():
    changed, later = RunCurves("r").add([{"name": "loss", "value": None, "step": 1}, scalar("loss", 2)])
    assert changed == {"loss"} and later == []
