"""A training that ran out of GPU memory goes on with one click (E206)."""

import json

import pytest
from train_bed import module, panel, press_start, ready, stub, until  # noqa: F401 (fixtures; puts the library on the path)

from semiseg import protocol
from TransMedSegLib.TrainFolds import FOLDS_FILE

TRAINING = {"batch_labeled": 4, "batch_unlabeled": 4, "patch_size": [80, 112, 112], "learning_rate": 0.002}
FIXES = [{"training": {"batch_labeled": 2, "batch_unlabeled": 2}}, {"training": {"patch_size": [64, 96, 96]}}, {"method_options": {"unheard_of": 1}}]
MESSAGE = "Training needs more than 11.0 GB with these settings, 7.6 of 8.0 GB can be used; it stopped at iteration 825."
HINT = "Use batch 2 instead of 4 or patch 64×96×96 instead of 80×112×112. The run continues from its last saved state."


@pytest.fixture
def outOfMemory(ready, stub):  # noqa: F811
    """A run that ended so, with a state of iteration 820 and a job with every number filled in."""
    saved = {"kind": "saved", "path": "resume.pt", "what": "state", "step": 820}
    stub.behave("fail", code="E206", message=MESSAGE, hint=HINT, fixes=FIXES, events=[saved])
    press_start(ready)
    runDir = ready.follow.process.runDir
    job = protocol.read_job(runDir)
    protocol.write_job(runDir, protocol.Job("train", {**job.options, "training": TRAINING}))
    (runDir / protocol.RESUME_FILE).write_text("820")
    assert until(lambda: ready.follow.process.ending is not None)
    return runDir


@pytest.mark.parametrize(
    ("title", "changed"),
    [
        ("Use batch 2 instead of 4", {"batch_labeled": 2, "batch_unlabeled": 2}),
        ("Use smaller patch 64×96×96", {"patch_size": [64, 96, 96]}),
    ],
)
@pytest.mark.parametrize("isReopened", [False, True], ids=["at once", "opened again"])
def test_E206_one_click_changes_the_job_and_goes_on(ready, stub, outOfMemory, title, changed, isReopened):  # noqa: F811
    help_ = ["Resume from iteration 820"] if isReopened else ["Resume from iteration 820", "Show log", "Copy for bug report"]
    if isReopened:
        ready.follow.open(outOfMemory)
    else:
        assert ready.notice.message == f"{MESSAGE} {HINT} [E206]"
    assert list(ready.notice.buttons) == ["Use batch 2 instead of 4", "Use smaller patch 64×96×96", *help_]
    stub.behave("finish", iterations=900)
    ready.notice.buttons[title].click()
    assert protocol.read_job(outOfMemory).options["training"] == {**TRAINING, **changed}
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.follow.process.ending.state.name == "Finished"
    events = protocol.read_events(outOfMemory / protocol.EVENTS_FILE)[0]
    assert [event["iteration"] for event in events if event["kind"] == "stage"] == [820], "from its state, not from the beginning"


def test_E206_the_runs_that_leave_one_out_get_the_same_settings(ready, stub, outOfMemory):  # noqa: F811
    folds = [outOfMemory.with_name(f"{outOfMemory.name}_without_{number}") for number in (1, 2)]
    for fold in folds:
        protocol.write_job(fold, protocol.Job("train", {"leave_out": "P1", "training": TRAINING}))
    report = protocol.EventWriter(folds[0] / protocol.EVENTS_FILE)
    report("finished", result={})
    report.close()
    (outOfMemory / FOLDS_FILE).write_text(json.dumps({"folds": [fold.name for fold in folds]}))
    stub.behave("finish", iterations=830, folds={"P1": {}})
    ready.notice.buttons["Use batch 2 instead of 4"].click()
    assert [protocol.read_job(fold).options["training"]["batch_labeled"] for fold in folds] == [4, 2], "the first is finished"
    assert until(lambda: not ready.follow.isRunning)


def test_E206_without_a_word_on_what_would_fit_the_run_can_be_resumed(ready, stub):  # noqa: F811
    stub.behave("crash", log="torch.OutOfMemoryError: CUDA out of memory.")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert list(ready.notice.buttons) == ["Show log", "Copy for bug report"]
