"""A label of several lines that is never cut."""

import qt


class WrappedLabel(qt.QLabel):
    """Asks for the height that its text needs at its width; a plain label is squeezed where a panel is longer than its window.

    Args:
        text: Shown as it is, never as markup: names of files and patients are no markup.
    """

    def __init__(self, text=""):
        qt.QLabel.__init__(self, text)
        self.wordWrap = True
        self.setTextFormat(qt.Qt.PlainText)

    def say(self, text):
        """Shows another text."""
        self.text = text
        self._fit()

    def resizeEvent(self, event):
        self._fit()

    def _fit(self):
        self.setMinimumHeight(0)  # Qt never asks for less than the minimum
        self.setMinimumHeight(max(self.heightForWidth(self.width), 0))
