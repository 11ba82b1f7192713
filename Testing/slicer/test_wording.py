"""One case is "1 case": every text that counts things has a singular, and both are translated."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import slicer

REPOSITORY = Path(__file__).parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "TransMedSeg"))

from TransMedSegLib import CompareTable
from TransMedSegLib.Compare import Scores
from TransMedSegLib.Counted import counted
from TransMedSegLib.ModelCard import ModelCard
from TransMedSegLib.TrainFolds import gainText, leaveOneOutText
from TransMedSegLib.TrainResult import resultText

NEVER_ONE = {
    "Measured on {count} cases, one training each.",  # said from five on
    "{count} iterations",
    "No gain for {count} iterations; the next stage is still to come.",
    "No gain for {count} iterations: stopping would be fine.",
    "{count} trainings",  # said from two on
    "Resample {count} masks",  # said from two on
    "Leaving one out needs at least {count} labeled patients.",
    "Which of the {count} frames of '{name}'? 1 is the first.",
}

OTHERWISE = {
    "All {count} source files are in the DICOM database": "The source file is in the DICOM database",
    "{count} volumes are also in the labeled list; they are used as labeled only.": "{count} volume is also in the labeled list; it is used as labeled only.",
    "{label}: leave-one-out estimate {mean}, range {low}–{high}, on {count} cases": "{label}: leave-one-out estimate {mean}, on {count} case",
    "{count} cases, median [IQR]: Dice {dice}, 95HD {hd95} mm, ASD {asd} mm": "{count} case: Dice {dice}, 95HD {hd95} mm, ASD {asd} mm",
    "{case} looks {alike} the {count} labeled cases; the model has not seen it.": "{case} looks {alike} the labeled case; the model has not seen it.",
    "The model is unsure of {doubt:.0%} of what it found in {case}, which looks {alike} the {count} labeled cases.": (
        "The model is unsure of {doubt:.0%} of what it found in {case}, which looks {alike} the labeled case."
    ),
}
"""Singulars that leave more out than a letter: one case has no range."""


def translated():
    """[(file, text)] of every literal that goes through the translation."""
    found = []
    for folder in ("TransMedSeg/TransMedSegLib", "TransMedSegTrain"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_" and isinstance(node.args[0], ast.Constant):
                    found.append((path.name, node.args[0].value))
    return found


def test_every_text_that_counts_has_a_singular():
    texts = translated()
    counting = re.compile(r"\{count\} (labeled |source )?([a-z]+)s\b")
    plurals = [(file, text) for file, text in texts if counting.search(text) and text not in NEVER_ONE]
    assert len(plurals) >= 10
    singular = lambda text: OTHERWISE.get(text) or counting.sub(r"{count} \1\2", text)
    assert [(file, text) for file, text in plurals if (file, singular(text)) not in texts] == []


@pytest.mark.parametrize(("count", "text"), [(0, "0 cases of P1"), (1, "1 case of P1"), (2, "2 cases of P1")])
def test_the_count_chooses_the_text(count, text):
    assert counted(count, "{count} case of {name}", "{count} cases of {name}", name="P1") == text


def score(mean, count):
    return {"scores": {"left atrium": {"dice": {"mean": mean, "count": count}}}}


def test_results_on_one_case_are_said_in_the_singular(tmp_path):
    lines = resultText({**score(0.9, 1), "baseline": score(0.8, 1)}).splitlines()
    assert lines == [
        "With unlabeled volumes: left atrium Dice 0.900 on 1 case: too few to be sure",
        "Labels only: left atrium Dice 0.800 on 1 case: too few to be sure",
        "Unlabeled volumes gain +0.100 Dice. On 1 case this may be chance.",
    ]
    assert gainText([(0.9, 0.8)] * 2).endswith("On 2 cases this may be chance.")
    run, fold = tmp_path / "run", tmp_path / "run_without_1"
    for folder in (run, fold):
        folder.mkdir()
        (folder / "job.json").write_text("{}")
    (run / "folds.json").write_text(json.dumps({"folds": [fold.name]}))
    (fold / "result.json").write_text(json.dumps(score(0.85, 1)))
    assert leaveOneOutText(run) == "left atrium: leave-one-out estimate 0.850, on 1 case"


def test_a_card_and_a_plot_of_one_case(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    card = ModelCard(tmp_path / "model.pt", {"labels": []}, score(0.9, 1))
    assert "Dice 0.90 on 1 case (too few to be sure)" in card.short()
    slicer.mrmlScene.Clear()
    node = CompareTable.add(Scores("P1", {"dice": 0.8}, "", 0))
    assert CompareTable.plot(node).GetTitle() == "Dice of 1 case"
    assert CompareTable.summary(node)["dice"] == "0.8000", "one number has no quartiles"
