"""Starts the bed for every test in this folder, and keeps tests from passing by accident."""

from pathlib import Path

import pytest
from bed import boot, dialogs, errors

boot.start()

_FOLDER = Path(__file__).parent
_MINIMUM = _FOLDER / "minimum_tests.txt"
_ran = set()


@pytest.fixture(autouse=True)
def clean_bed():
    """Gives each test an empty scene, and fails it where Qt or VTK swallowed an exception."""
    import slicer

    slicer.mrmlScene.Clear()
    dialogs.forget()
    errors.take()
    yield
    boot.process_events()
    swallowed = errors.take()
    assert not swallowed, "an exception was swallowed by Qt or VTK:\n" + "\n".join(swallowed)


def pytest_runtest_logreport(report):
    if report.when == "call" and not report.skipped:
        _ran.add(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    """Fails a full run in which fewer tests ran than minimum_tests.txt says: a test that is lost is a failure."""
    minimum = int(_MINIMUM.read_text())
    if _is_full_run(session.config) and len(_ran) < minimum:
        print(f"\nonly {len(_ran)} tests ran; {_MINIMUM.name} asks for {minimum}")
        session.exitstatus = max(int(exitstatus), 1)


def _is_full_run(config):
    options = config.option
    if options.keyword or options.markexpr or options.collectonly or getattr(options, "lf", False):
        return False
    return any(_FOLDER.is_relative_to((config.invocation_params.dir / arg).resolve()) for arg in config.args)
