# ruff: noqa: F811 (fixtures are imported)
"""Slicer is closed during a training (E508)."""

from bed import boot, dialogs
from closing_bed import window  # noqa: F401 (fixture)
from train_bed import module, panel, ready, started, stub, until  # noqa: F401 (fixtures)

from semiseg.protocol import process_exists


def test_E508_a_training_goes_on_and_this_is_said(ready, stub, window):
    process = started(ready, stub)
    ready._guard.start()  # in this test the window came after the module
    assert window.close()
    assert dialogs.texts()[-1] == "Training continues in the background. [E508]"
    pid = process.pid
    boot.quit_application()
    assert until(lambda: process.isRunning is False)
    assert process_exists(pid), "nobody has ended it"
    process.kill()
    assert until(lambda: not process._isAlive())


def test_without_a_training_nothing_is_said(ready, window):
    ready._guard.start()
    assert window.close() and dialogs.shown == []
