"""Questions and messages that answer themselves, and are remembered.

A modal dialog would wait for ever in a test. Here each one is recorded in `shown`, and answered from `answers`:

    dialogs.answers["confirmYesNoDisplay"] = [True, False]      # for the first and the second question
    dialogs.answers["getExistingDirectory"] = ["/data/cases"]
    dialogs.answers["QMessageBox"] = ["Save and restart"]       # the text of a button: it is clicked
    ...
    assert dialogs.texts() == ["Keep the best model so far?"]

Without an answer, slicer.util's displays do what Slicer does in testing mode, file dialogs are cancelled, message
boxes take their default button, and any other modal dialog raises UnansweredDialog. Opening a web page is recorded
too, and not done.
"""

from dataclasses import dataclass

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt.extras import BoolResult
from .pythonqt.wrapped import is_pyside_class


class UnansweredDialog(RuntimeError):
    """A modal dialog was opened and the test gave no answer for it."""


@dataclass(frozen=True)
class Shown:
    """One dialog: the function that showed it, and its texts."""

    kind: str
    text: str
    title: str = ""
    details: str = ""
    buttons: tuple = ()


shown = []
answers = {}

_DISPLAYS = (
    "delayDisplay",
    "infoDisplay",
    "warningDisplay",
    "errorDisplay",
    "confirmOkCancelDisplay",
    "confirmYesNoDisplay",
    "confirmRetryCloseDisplay",
    "messageBox",
)
# PythonQt returns the path alone, where PySide6 returns it with the chosen filter.
_FILE_DIALOGS = {"getExistingDirectory": "", "getOpenFileName": "", "getOpenFileNames": [], "getSaveFileName": ""}
_INPUT_DIALOGS = {"getText": "", "getInt": 0, "getDouble": 0.0, "getItem": ""}
_BOXES = ("information", "question", "warning", "critical", "about")


def texts():
    """Lists the texts shown so far, oldest first."""
    return [one.text for one in shown]


def forget():
    """Forgets what was shown and what was to be answered."""
    shown.clear()
    answers.clear()


def record(kind, text, title="", details="", buttons=()):
    """Remembers a dialog that is not shown."""
    shown.append(Shown(kind, str(text), str(title or ""), str(details or ""), tuple(buttons)))


def _has_answer(kind):
    return bool(answers.get(kind))


def install():
    """Puts the recorders in front of slicer.util's displays and Qt's modal dialogs."""
    import slicer.util

    for name in _DISPLAYS:
        native = getattr(slicer.util, name)
        if not hasattr(native, "bed_recorder"):
            setattr(slicer.util, name, _display(name, native))
    _install_static_dialogs()
    for name in _BOXES:
        setattr(QtWidgets.QMessageBox, name, staticmethod(_static_box(name)))
    QtGui.QDesktopServices.openUrl = staticmethod(_open_url)
    for cls in (QtWidgets.QDialog, QtWidgets.QMessageBox):
        cls.exec = cls.exec_ = _exec
    QtWidgets.QMenu.exec = QtWidgets.QMenu.exec_ = _exec_menu


def _install_static_dialogs():
    for cls, defaults in ((QtWidgets.QFileDialog, _FILE_DIALOGS), (QtWidgets.QInputDialog, _INPUT_DIALOGS)):
        for name, default in defaults.items():
            setattr(cls, name, staticmethod(_static_dialog(name, default)))
    QtWidgets.QColorDialog.getColor = staticmethod(_get_color)


def _open_url(url):
    record("openUrl", url.toString() if isinstance(url, QtCore.QUrl) else url)
    return True


def _display(name, native):
    def display(text, *args, **kwargs):
        record(name, text, kwargs.get("windowTitle"), kwargs.get("detailedText"))
        return answers[name].pop(0) if _has_answer(name) else native(text, *args, **kwargs)

    display.bed_recorder = True
    return display


def _static_dialog(name, default):
    def dialog(parent=None, title="", text="", *args, **kwargs):
        record(name, text, title)
        answered = _has_answer(name)
        for one in (*args, *kwargs.values()):
            if isinstance(one, BoolResult):
                one.value = answered
        return answers[name].pop(0) if answered else default

    return dialog


def _get_color(initial=None, parent=None, title="", *_):
    record("getColor", title, title)
    return answers["getColor"].pop(0) if _has_answer("getColor") else QtGui.QColor()


def _static_box(name):
    def box(parent, title, text, *args, **kwargs):
        record(name, text, title)
        if _has_answer(name):
            return answers[name].pop(0)
        return QtWidgets.QMessageBox.Yes if name == "question" else QtWidgets.QMessageBox.Ok

    return box


def _exec(self):
    if isinstance(self, QtWidgets.QMessageBox):
        return _exec_box(self)
    kind = next(cls.__name__ for cls in type(self).__mro__ if is_pyside_class(cls))
    record(kind, self.windowTitle, self.windowTitle)
    if not _has_answer(kind):
        raise UnansweredDialog(f"{type(self).__name__} '{self.windowTitle}' would wait for the user")
    answer = answers[kind].pop(0)
    return answer(self) if callable(answer) else answer


def _exec_box(box):
    buttons = {button.text.replace("&", ""): button for button in box.buttons()}
    record("QMessageBox", box.text, box.windowTitle, box.detailedText, buttons)
    answer = answers["QMessageBox"].pop(0) if _has_answer("QMessageBox") else None
    if answer is None:
        clicked = box.defaultButton() or next(iter(buttons.values()), None)
    elif isinstance(answer, str):
        clicked = buttons[answer]
    else:
        clicked = box.button(answer)
    if clicked is None:
        return int(QtWidgets.QMessageBox.Ok)
    clicked.click()
    return box.result()


def _exec_menu(self, *_):
    """A popup menu: the answer is the text of an action, which is triggered."""
    actions = {action.text.replace("&", ""): action for action in self.actions() if action.text}
    record("QMenu", self.title, buttons=actions)
    if not _has_answer("QMenu"):
        return None
    action = actions[answers["QMenu"].pop(0)]
    action.trigger()
    return action
