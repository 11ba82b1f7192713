"""A main window that a user may close, for the tests of what is asked then."""

import pytest
import slicer
from bed import main_window


@pytest.fixture
def window(monkeypatch):
    """The window; as outside of testing mode, questions do not answer themselves."""
    one = main_window.open_main_window()
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda self: False)
    yield one
    main_window.close_main_window()
