# ruff: noqa: F811 (fixtures are imported)
"""The training module from dropping cases to the result, with an engine that is played by a script."""

import slicer
from bed import user
from train_bed import module, panel, press_start, stub, until  # noqa: F401 (fixtures)


def test_drop_start_watch_result(panel, tmp_path):
    assert not panel.ui.startButton.enabled
    assert panel.ui.startButton.toolTip == "At least 2 labeled volumes are needed (4 or more recommended). [E801]"
    assert user.drop_files(panel.ui.labeledTable, [tmp_path / "labeled"])
    assert user.drop_files(panel.ui.unlabeledTable, [tmp_path / "unlabeled"])
    assert panel.ui.labeledTable.item(0, 1).text() == "labeled"
    assert panel.ui.startButton.enabled
    press_start(panel)
    assert panel.follow.process.isRunning and panel.state.name == "Running"
    assert until(lambda: panel.follow.process.ending is not None)
    assert panel.follow.process.ending.state.name == "Finished", panel.follow.process.ending
    table = slicer.util.getNode(f"{panel.follow.process.runDir.name} Losses (numbers)")
    assert table.GetNumberOfRows() == 10
    assert panel.ui.resultLabel.text == "With unlabeled volumes: left atrium Dice 0.912 on 1 case: too few to be sure"
    assert slicer.util.arrayFromTableColumn(panel.ui.resultTable.mrmlTableNode(), "Dice")[0] == 0.912345678
    assert panel.ui.resultTable.mrmlTableNode().GetCellText(0, 7) == "scored on the image's grid", "what the engine notes of a row is seen"
    assert panel.state.name == "Ready"
