"""Sections that fold: ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkExpandButton."""

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept

_HEADER_HEIGHT = 24
_NO_LIMIT = 16777215  # QWIDGETSIZE_MAX


class _Folding:
    """Hides the children of a section while it is folded, and shows again those that were shown before."""

    def fold(self, folded):
        for child in self.content():
            if folded and not child.isHidden():
                self._folded_children.append(child)
                child.hide()
        if not folded:
            children, self._folded_children = self._folded_children, []
            for child in children:
                child.show()

    def childEvent(self, event):
        # The .ui loader sets `collapsed` first and adds the children afterwards.
        if event.type() == QtCore.QEvent.ChildPolished and self.collapsed and event.child() in self.content():
            self.fold(True)


@stand_in("clicked(bool)", "toggled(bool)", "contentsCollapsed(bool)")
class ctkCollapsibleButton(_Folding, QtWidgets.QWidget):
    """A button over the full width that folds the widgets below it."""

    clicked = Signal(bool)
    toggled = Signal(bool)
    contentsCollapsed = Signal(bool)

    _header = None
    _is_collapsed = False
    _folded_children = ()

    def __init__(self, *args):
        texts = [one for one in args if isinstance(one, str)]
        parents = [one for one in args if isinstance(one, QtWidgets.QWidget)]
        QtWidgets.QWidget.__init__(self, *parents[:1])
        self._folded_children = []
        self._header = QtWidgets.QToolButton(self)
        self._header.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self._header.setArrowType(Qt.DownArrow)
        self._header.clicked.connect(self._on_clicked)
        self._header.text = texts[0] if texts else ""
        self.setContentsMargins(0, _HEADER_HEIGHT + 2, 0, 0)

    def content(self):
        return [one for one in self.children() if isinstance(one, QtWidgets.QWidget) and one is not self._header]

    def resizeEvent(self, event):
        self._header.setGeometry(0, 0, self.width, _HEADER_HEIGHT)

    def minimumSizeHint(self):
        inner = self.layout().minimumSize() if self.layout() and not self._is_collapsed else QtCore.QSize(0, 0)
        return QtCore.QSize(inner.width(), max(inner.height(), _HEADER_HEIGHT))

    def _on_clicked(self, *_):
        self.setCollapsed(not self._is_collapsed)
        self.clicked.emit(not self._is_collapsed)

    def setCollapsed(self, collapsed):
        collapsed = bool(collapsed)
        if collapsed == self._is_collapsed:
            return
        self._is_collapsed = collapsed
        self._header.setArrowType(Qt.RightArrow if collapsed else Qt.DownArrow)
        self.setMaximumHeight(_HEADER_HEIGHT if collapsed else _NO_LIMIT)
        self.fold(collapsed)
        self.toggled.emit(not collapsed)
        self.contentsCollapsed.emit(collapsed)

    def setText(self, text):
        self._header.text = text

    def setChecked(self, checked):
        self.setCollapsed(not checked)

    def click(self):
        self._on_clicked()

    collapsed = Property(bool, lambda self: self._is_collapsed, setCollapsed)
    checked = Property(bool, lambda self: not self._is_collapsed, setChecked)
    text = Property(str, lambda self: self._header.text, setText)
    checkable = kept(bool, True)
    collapsedHeight = kept(int, 10)
    contentsFrameShape = kept(int, 0)
    flat = kept(bool, False)


@stand_in()
class ctkCollapsibleGroupBox(_Folding, QtWidgets.QGroupBox):
    """A group box whose title folds it."""

    _folded_children = ()

    def __init__(self, *args):
        QtWidgets.QGroupBox.__init__(self, *args)
        self._folded_children = []
        self.setCheckable(True)
        self.toggled.connect(lambda shown: self.fold(not shown))

    def content(self):
        return [one for one in self.children() if isinstance(one, QtWidgets.QWidget)]

    def setCollapsed(self, collapsed):
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: not self.isChecked(), setCollapsed)
    collapsedHeight = kept(int, 10)


@stand_in()
class ctkExpandButton(QtWidgets.QToolButton):
    """A small button with an arrow, used to unfold something else."""

    orientation = kept(int, 1)
    mirrorOnExpand = kept(bool, False)
