# ruff: noqa: F811 (fixtures are imported)
"""What is said while a training runs between its curves: the phase in words, the time left, and whose curve is whose."""

import pytest
import slicer
from train_bed import module, panel, ready, started, stub, until  # noqa: F401 (fixtures)

from TransMedSegLib.RunCurves import RunCurves, chartOf, curveTitle, findNode
from TransMedSegLib.RunProgress import RunProgress


def said(*events):
    progress = RunProgress()
    for event in events:
        progress.hear(event)
    return progress.text()


def progress(what, done, total, **values):
    return {"kind": "progress", "what": what, "done": done, "total": total, **values}


TRAINING = progress("train", 1200, 6000, rate_per_s=3.25, eta_s=1477, stage="self_train")
LABELING = progress("labeling cases", 3, 75, rate_per_s=0.5, eta_s=144)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (TRAINING, "Learning from all volumes: iteration 1200 of 6000, 3.2 per s, 24 min 37 s left"),
        (progress("train", 20, 600, rate_per_s=0.25, eta_s=0, stage="train"), "iteration 20 of 600, 0.25 per s"),
        (progress("preparing cases", 2, 9), "Preparing cases: 2 of 9"),
        (progress("comparing similar cases", 2, 9), "Looking for cases that came twice: 2 of 9"),
        (progress("segmenting", 1, 2, rate_per_s=0.1, eta_s=10), "Segmenting the cases to check on: 1 of 2, 10 s left"),
        (progress("scoring", 1, 2), "Comparing with their masks: 1 of 2"),
        (progress("something new", 1, 2), "something new 1 of 2"),
        ({"kind": "stage", "name": "pretrain", "iteration": 0, "total": 600}, "Learning from the labels: iteration 0 of 600"),
        ({"kind": "stage", "name": "baseline", "iteration": 0, "total": 0}, "Measuring the gain, on the labels alone"),
    ],
)
def test_every_phase_is_said_in_words(event, text):
    assert said(event) == text


def test_labeling_of_cases_does_not_pass_for_training(ready, tmp_path):
    """Its rate and time left are its own; the bar stays where training is."""
    ready.view.show(tmp_path / "run")
    ready.view.hear([TRAINING])
    ready.view.hear([LABELING])
    assert ready.ui.detailLabel.text == (
        "Labeling the unlabeled cases with the model so far: 3 of 75, 2 min 24 s left, then training goes on from iteration 1200 of 6000"
    )
    assert (ready.ui.progressBar.value, ready.ui.progressBar.maximum) == (1200, 6000)
    ready.view.hear([TRAINING])
    assert ready.ui.detailLabel.text.startswith("Learning from all volumes: iteration 1200 of 6000, 3.2 per s")


def test_run_that_labels_cases_keeps_its_iterations_in_the_list(ready, stub):
    process = started(ready, stub, "finish", label_at=50)
    assert until(lambda: process.ending is not None)
    ready.runs.refresh()
    assert [(one.iteration, one.total) for one in ready.runs.summaries if one.runDir == process.runDir] == [(100, 100)]
    series = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")}
    assert {"deployed (teacher)", "student", "volume (share of the image)", "entropy"} <= series


def test_curves_are_named_for_readers():
    assert curveTitle("validation_dice") == "deployed", "without a student nobody is a teacher"
    assert curveTitle("loss_clustering") == "clustering"
    assert curveTitle("baseline_loss_supervised") == "labels, labels alone (dashed)" and chartOf("baseline_loss_supervised") == "loss"
    curves = RunCurves("r")
    curves.add([{"name": name, "value": 0.5, "step": 10} for name in ("validation_dice", "validation_dice_student", "baseline_validation_dice")])
    chart = curves.chartNode("dice")
    names = [chart.GetNthPlotSeriesNode(index).GetName() for index in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["deployed (teacher)", "student", "deployed, labels alone (dashed)"]


def test_a_curve_of_the_labels_alone_is_dashed_and_has_the_color_of_its_counterpart():
    names = ("loss", "loss_supervised", "baseline_loss", "baseline_loss_supervised")
    curves = RunCurves("run")
    curves.add([{"name": name, "value": 1.0, "step": 10} for name in names])
    series = [findNode("vtkMRMLPlotSeriesNode", "run", f"loss.{name}") for name in names]
    assert [one.GetLineStyle() == one.LineStyleDash for one in series] == [False, False, True, True]
    assert [one.GetColor() for one in series[:2]] == [one.GetColor() for one in series[2:]]
    assert series[0].GetColor() != series[1].GetColor()


def test_few_numbers_are_marked_and_many_are_a_line():
    curves = RunCurves("r")
    curves.add([{"name": "pseudo_label_share", "value": 0.02, "step": 10}])
    series = curves.chartNode("pseudo_label").GetNthPlotSeriesNode(0)
    assert series.GetMarkerStyle() == series.MarkerStyleCircle, "one number alone draws no line"
    curves.add([{"name": "pseudo_label_share", "value": 0.02, "step": step} for step in range(20, 600, 10)])
    assert series.GetMarkerStyle() == series.MarkerStyleNone
