"""The row of prompts in the section Correct: ＋, －, scribbles, box, clear, undo."""

from slicer.i18n import tr as _

from .Messages import message
from .PromptMarks import BOX, POINT, STROKE
from .Prompts import Prompts


class PromptPanel:
    """Fills the row.

    Args:
        desk: What the sections share.
        notice: For questions.
        undo: Takes one step back.
    """

    def __init__(self, desk, notice, undo):
        self.desk, self.ui = desk, desk.ui
        self.prompts = Prompts(desk, notice, desk.refresh)
        self._buttons = {
            (POINT, True): self.ui.addPointButton,
            (POINT, False): self.ui.removePointButton,
            (STROKE, True): self.ui.addScribbleButton,
            (STROKE, False): self.ui.removeScribbleButton,
            (BOX, True): self.ui.boxButton,
        }
        self._hints = {
            (POINT, True): _("Click in a slice view inside of what is missing; Esc ends it"),
            (POINT, False): _("Click in a slice view on what does not belong; Esc ends it"),
            (STROKE, True): _("Click along what is missing, double-click to end the line; Esc ends it"),
            (STROKE, False): _("Click along what does not belong, double-click to end the line; Esc ends it"),
            (BOX, True): _("Draw a box around the structure: what is outside is taken away"),
        }
        self._tips = {name: button.toolTip for name, button in self._buttons.items()}
        self._texts = {
            "none": message("E301"),
            "clear": _("Forget the marks; what they have changed stays"),
            "noMarks": _("There are no marks"),
            "undo": _("One step back, mask and mark together (Ctrl+Z)"),
        }
        for tool, button in self._buttons.items():
            button.connect("clicked()", lambda tool=tool: self.prompts.take(*tool))
        self.ui.clearPromptsButton.connect("clicked()", self._onClear)
        self.ui.undoButton.connect("clicked()", undo)

    def add(self):
        """The key for ＋."""
        self.prompts.take(POINT, True)

    def remove(self):
        """The key for －."""
        self.prompts.take(POINT, False)

    def _onClear(self):
        self.prompts.clear()
        self.desk.refresh()

    def refresh(self, canUndo):
        """Shows the tool in hand and what can be done."""
        hasCase = self.desk.current is not None
        for tool, button in self._buttons.items():
            button.checked = tool == self.prompts.tool
            button.enabled = hasCase
            button.toolTip = self._tips[tool] if hasCase else self._texts["none"]
        self.prompts.refresh()
        hasMarks = bool(self.prompts.marks())
        self.ui.clearPromptsButton.enabled = hasMarks
        self.ui.clearPromptsButton.toolTip = self._texts["clear" if hasMarks else "noMarks"]
        self.ui.undoButton.enabled = canUndo
        self.ui.undoButton.toolTip = self._texts["undo"] if canUndo else message("E605")
        lines = [self.prompts.text, self._hints[self.prompts.tool] if self.prompts.tool else ""]
        self.ui.promptLabel.text = "\n".join(line for line in lines if line)
        self.ui.promptLabel.setVisible(bool(self.ui.promptLabel.text))
