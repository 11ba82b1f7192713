"""Buttons, check boxes, message boxes and text fields of CTK."""

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept


@stand_in("colorChanged(QColor)")
class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that shows a color and opens a dialog to choose another one."""

    colorChanged = Signal(QtGui.QColor)

    _color = QtGui.QColor(0, 0, 0)

    def __init__(self, *args):
        QtWidgets.QPushButton.__init__(self, *args)
        self.clicked.connect(lambda *_: self.changeColor())
        self._show()

    def setColor(self, color):
        color = QtGui.QColor(color)
        if color != self._color:
            self._color = color
            self._show()
            self.colorChanged.emit(color)

    def changeColor(self):
        color = QtWidgets.QColorDialog.getColor(self._color, self)
        if color.isValid():
            self.setColor(color)

    def _show(self):
        swatch = QtGui.QPixmap(16, 16)
        swatch.fill(self._color)
        self.setIcon(QtGui.QIcon(swatch))
        self.text = self._color.name() if self.displayColorName else ""

    color = Property(QtGui.QColor, lambda self: self._color, setColor)
    displayColorName = kept(bool, True, lambda self: self._show())
    dialogOptions = kept(int, 0)


@stand_in("checkBoxToggled(bool)")
class ctkCheckablePushButton(QtWidgets.QPushButton):
    """A button with a check box on it that makes the button stay down."""

    checkBoxToggled = Signal(bool)

    checkState = kept(int, 0)
    checkBoxControlsButton = kept(bool, True)
    checkBoxControlsButtonToggleState = kept(bool, True)
    checkBoxUserCheckable = kept(bool, True)


@stand_in()
class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a small arrow that opens its menu; the rest of it still clicks."""

    _menu = None

    def menu(self):
        return self._menu

    def setMenu(self, menu):
        # Qt's own push button would open the menu wherever it is clicked.
        self._menu = menu

    def paintEvent(self, event):
        QtWidgets.QPushButton.paintEvent(self, event)
        if self._menu is not None:
            option = QtWidgets.QStyleOption()
            option.initFrom(self)
            option.rect = self.rect.adjusted(self.width - 24, 6, -8, -6)
            painter = QtGui.QPainter(self)
            self.style().drawPrimitive(QtWidgets.QStyle.PE_IndicatorArrowDown, option, painter, self)
            painter.end()


@stand_in()
class ctkPushButton(QtWidgets.QPushButton):
    """A push button with settings for its alignment."""

    buttonTextAlignment = kept(int, 0x84)
    iconAlignment = kept(int, 0x81)


@stand_in()
class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box that can show icons."""

    indicatorIcon = kept(QtGui.QIcon, QtGui.QIcon)
    indicatorIconSize = kept(QtCore.QSize, QtCore.QSize)
    invertedControls = kept(bool, False)


@stand_in()
class ctkSearchBox(QtWidgets.QLineEdit):
    """A line for a search text."""

    showSearchIcon = kept(bool, False)
    showClearIcon = kept(bool, True)
    alwaysShowClearIcon = kept(bool, False)
    searchIcon = kept(QtGui.QIcon, QtGui.QIcon)


@stand_in()
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text whose height follows what it says."""

    _collapsible_text = ""

    def setCollapsibleText(self, text):
        self._collapsible_text = text
        self.setHtml(text)

    collapsibleText = Property(str, lambda self: self._collapsible_text, setCollapsibleText)
    collapsed = kept(bool, True)
    showDetailsText = kept(str, "Show details...")
    hideDetailsText = kept(str, "Hide details.")


@stand_in()
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with "don't show this again"."""

    def setDontShowAgainSettingsKey(self, key):
        self.dontShowAgainSettingsKey = key

    dontShowAgainSettingsKey = kept(str, "")
    dontShowAgainVisible = kept(bool, False)
    dontShowAgain = kept(bool, False)


@stand_in()
class ctkSettings(QtCore.QSettings):
    """The settings as seen through CTK."""


@stand_in()
class ctkThumbnailLabel(QtWidgets.QLabel):
    """A picture with a text over it."""

    selected = kept(bool, False)
    thumbnailText = kept(str, "", lambda self: self.setToolTip(self.thumbnailText))


@stand_in()
class ctkErrorLogWidget(QtWidgets.QTextEdit):
    """The application's error log."""
