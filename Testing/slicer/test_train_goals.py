# ruff: noqa: F811 (fixtures are imported)
"""Goals with measured times, and the estimate from leaving one out. The engine is played by a script."""

import itertools
import json

import slicer
from train_bed import CASES, module, panel, press_start, ready, stub, until  # noqa: F401 (fixtures)

from semiseg import protocol
from TransMedSegLib import RunState, TrainMeasure
from TransMedSegLib.RunList import RunList
from TransMedSegLib.TrainFolds import foldsOf, gainText, hasLivingFolds, leaveOneOutText
from TransMedSegLib.TrainParameters import Goal

GOALS = {"quick": (450, 90.0), "normal": (3600, 720.0), "best": (18000, 3600.0)}
MEASURED = {
    "step_s": 0.2,
    "goals": {goal: {"iterations": count, "train_s": seconds} for goal, (count, seconds) in GOALS.items()},
    "memory_gb": 1.84,
    "memory_free_gb": 11.2,
    "disk_gb": 0.31,
    "disk_free_gb": 41.0,
}


def rows(tmp_path, names=("P1", "P2", "P3", "P4")):
    pattern = CASES[0].format(folder=tmp_path)
    return [pattern.replace("P1", name) for name in names]


def measured(ready, stub, tmp_path, **changes):
    slicer.app.userSettings().remove(TrainMeasure.MEASURED_SETTING)
    stub.behave("finish", cases=rows(tmp_path), measured={**MEASURED, **changes})
    ready.ui.measureButton.click()
    assert ready.ui.measureButton.text == "Cancel" and not ready.ui.startButton.enabled
    assert ready.ui.startButton.toolTip == "The times are being measured."
    assert until(lambda: not ready.measure.isRunning)


# Measuring


def test_nothing_is_measured_until_the_user_asks(ready, stub, tmp_path):
    slicer.app.userSettings().remove(TrainMeasure.MEASURED_SETTING)
    ready.runs.refresh()
    assert ready.ui.goalLabel.text == "Press Measure to see how long each goal takes here."
    assert ready.ui.quickRadioButton.text == "Quick" and not (tmp_path / "runs").exists()


def test_goals_show_what_was_measured_here(ready, stub, tmp_path):
    measured(ready, stub, tmp_path)
    assert protocol.read_job(tmp_path / "runs" / "_check").verb == "measure"
    ui = ready.ui
    assert [button.text for button in (ui.quickRadioButton, ui.normalRadioButton, ui.bestRadioButton)] == [
        "Quick (≈ 1 min 30 s)", "Normal (≈ 12 min)", "Best (≈ 1 h)",
    ]
    assert ui.goalLabel.text == "3600 iterations, about 12 min, memory 1.8 of 11.2 GB free, disk 0.3 of 41.0 GB free"
    ui.quickRadioButton.click()
    assert ui.goalLabel.text.startswith("450 iterations, about 1 min 30 s, ")
    assert ui.checkLabel.text == "4 labeled, 0 held out, 0 unlabeled\n" + ui.checkLabel.text.splitlines()[1], "the cases are known as well"
    assert ready.check.isCurrent and ui.startButton.enabled


def test_measuring_the_gain_takes_twice_as_long(ready, stub, tmp_path):
    measured(ready, stub, tmp_path)
    ready.ui.measureGainCheckBox.checked = True
    assert ready.ui.quickRadioButton.text == "Quick (≈ 3 min)"
    assert "2 trainings, about 24 min" in ready.ui.goalLabel.text


def test_too_little_memory_is_said(ready, stub, tmp_path):
    measured(ready, stub, tmp_path, memory_gb=12.0)
    assert ready.ui.goalLabel.text.splitlines()[1] == "This needs more memory than is free. Close other programs first."


def test_measurements_are_kept_for_the_same_settings_alone(ready, module, stub, tmp_path):
    measured(ready, stub, tmp_path)
    kept = slicer.util.settingsValue(TrainMeasure.MEASURED_SETTING, "")
    assert str(tmp_path) not in kept, "no path among the settings"
    module.widgetRepresentation().exit()
    module.widgetRepresentation().enter()
    assert ready.ui.quickRadioButton.text == "Quick (≈ 1 min 30 s)"
    ready.parameters.methodOptions = json.dumps({"alpha": 0.5})
    assert ready.ui.quickRadioButton.text == "Quick"
    ready.parameters.methodOptions = "{}"
    assert ready.ui.quickRadioButton.text == "Quick (≈ 1 min 30 s)"


def test_cases_that_changed_while_measuring_are_not_called_checked(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path), measured=MEASURED)
    ready.ui.measureButton.click()
    ready.cases.add("unlabeled", [tmp_path / "more"])
    assert until(lambda: not ready.measure.isRunning)
    assert not ready.check.isDone and ready.ui.checkLabel.text == ""
    assert ready.ui.quickRadioButton.text == "Quick", "it was measured for other cases"


def test_measuring_can_be_cancelled(ready, stub):
    slicer.app.userSettings().remove(TrainMeasure.MEASURED_SETTING)
    stub.behave("deaf")
    ready.ui.measureButton.click()
    process = ready.measure.process
    assert until(lambda: (process.runDir / "run.lock").exists())
    ready.ui.measureButton.click()
    assert until(lambda: not ready.measure.isRunning)
    assert not protocol.process_exists(process.pid) and ready.notice.message == ""
    assert ready.ui.measureButton.text == "Measure" and ready.ui.startButton.enabled
    assert ready.ui.goalLabel.text == "Press Measure to see how long each goal takes here."


def test_engine_that_cannot_measure_is_quoted(ready, stub):
    stub.behave("fail", code="E206", message="Training needs more memory.")
    ready.ui.measureButton.click()
    assert until(lambda: not ready.measure.isRunning)
    assert ready.notice.message == "Training needs more memory. [E206]"


# Leaving one out


def scores(mean):
    return {"scores": {"left atrium": {"dice": {"mean": mean, "count": 1}}}}


def checked(ready, stub, tmp_path, names=("P1", "P2", "P3", "P4"), **values):
    stub.behave("finish", cases=rows(tmp_path, names), **values)
    ready.ui.leaveOneOutRadioButton.click()
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)


def test_every_labeled_patient_is_left_out_once(ready, stub, tmp_path):
    """Ordinary run folders, one after another, and an estimate beside the result."""
    dices = {"P1": 0.81, "P2": 0.91, "P3": 0.88, "P4": 0.88}
    folds = {name: {**scores(dice), "baseline": scores(dice - 0.02)} for name, dice in dices.items()}
    checked(ready, stub, tmp_path, folds=folds, result={"wall_s": 5})
    assert "5 trainings" not in ready.ui.goalLabel.text
    ready.ui.measureGainCheckBox.checked = True
    press_start(ready)
    run_dir = ready.follow.process.runDir
    assert protocol.read_job(run_dir).options["baseline"] is False
    found = foldsOf(run_dir)
    assert [fold.name for fold in found] == [f"{run_dir.name}_without_{number}" for number in (1, 2, 3, 4)]
    options = protocol.read_job(found[1]).options
    assert (options["leave_out"], options["prepared"], options["baseline"]) == ("P2", str(run_dir / "prepared"), True)
    assert until(lambda: all(RunState.summarize(fold).state.name == "Finished" for fold in found), 240)
    times = [[event["time"] for event in protocol.read_events(fold / "events.jsonl")[0] if event["kind"] in ("started", "finished")] for fold in (run_dir, *found)]
    times[0] = times[0][-2:]  # before them are those of the check
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times)), "never two at once"
    ready.runs.refresh()
    assert ready.ui.resultLabel.text.splitlines()[-2:] == [
        "left atrium: leave-one-out estimate 0.870, range 0.810–0.910, on 4 cases",
        "Unlabeled volumes gain +0.020 Dice. On 4 cases this may be chance.",
    ]


def test_pausing_at_once_holds_those_that_have_only_just_been_started(ready, stub, tmp_path):
    """Their programs have not come to say that they wait."""
    checked(ready, stub, tmp_path)
    stub.behave("forever")
    press_start(ready)
    process = ready.follow.process
    ready.ui.pauseButton.click()
    assert until(lambda: process.ending is not None)
    assert until(lambda: [RunState.summarize(fold).state.name for fold in foldsOf(process.runDir)] == ["Paused"] * 4)


def test_stopping_gives_up_those_that_wait(ready, stub, tmp_path):
    checked(ready, stub, tmp_path)
    stub.behave("forever")
    press_start(ready)
    process = ready.follow.process
    found = foldsOf(process.runDir)
    assert until(lambda: (process.runDir / "run.lock").exists())
    assert until(lambda: [RunState.summarize(fold).state.name for fold in found] == ["Queued"] * 4)
    assert hasLivingFolds(process.runDir)
    ready.ui.pauseButton.click()
    assert until(lambda: process.ending is not None)
    assert until(lambda: [RunState.summarize(fold).state.name for fold in found] == ["Paused"] * 4)
    assert not hasLivingFolds(process.runDir), "now they could be deleted"
    assert leaveOneOutText(process.runDir) == "Leave-one-out: 0 of 4 done."
    stub.behave("finish", folds={name: scores(0.8) for name in ("P1", "P2", "P3", "P4")})
    ready.follow.resume(process.runDir)
    assert until(lambda: all(RunState.summarize(fold).state.name == "Finished" for fold in found), 240), "resuming the first resumes them all"


def test_a_fold_that_failed_is_named(tmp_path):
    run, folds = tmp_path / "run", [tmp_path / f"run_without_{number}" for number in (1, 2)]
    for folder in (run, *folds):
        protocol.write_job(folder, protocol.Job("train", {}))
    (run / "folds.json").write_text(json.dumps({"folds": [fold.name for fold in folds]}))
    assert leaveOneOutText(run) == "Leave-one-out: 0 of 2 done."
    for kind in ("started", "failed"):
        with open(folds[1] / protocol.EVENTS_FILE, "a") as stream:
            stream.write(json.dumps({"kind": kind, "time": 1.0, "code": "E310", "message": "No memory."}) + "\n")
    states = {one.runDir.name: one.state for one in RunList(tmp_path).runs()}
    assert leaveOneOutText(run, states) == "Leave-one-out: 0 of 2 done.\nFailed: run_without_2 (see the list of runs)."


def test_two_patients_are_too_few(ready, stub, tmp_path):
    checked(ready, stub, tmp_path, names=("P1", "P2"))
    assert not ready.ui.startButton.enabled
    assert ready.ui.startButton.toolTip == "Leaving one out needs at least 3 labeled patients."


def test_the_gain_is_said_in_a_sentence():
    assert gainText([(0.89, 0.87)], 6) == "Unlabeled volumes gain +0.020 Dice. Measured on 6 cases, one training each."
    assert gainText([(0.86, 0.87)], 2) == "Unlabeled volumes do not help here: -0.010 Dice. On 2 cases this may be chance."
    assert gainText([]) == ""


def test_every_goal_has_a_measured_name():
    assert {goal.value for goal in Goal} == set(GOALS)
