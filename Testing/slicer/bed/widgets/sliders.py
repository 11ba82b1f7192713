"""Numbers: ctkSliderWidget, ctkDoubleSlider, ctkDoubleSpinBox, ctkRangeWidget and the qMRML variants."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept

_STEPS = 1000


def _parents(args):
    return [one for one in args if isinstance(one, QtWidgets.QWidget)][:1]


def _finite(value):
    # QDoubleSpinBox cannot hold infinity.
    return max(min(float(value), 1e300), -1e300)


def _row(owner, *widgets):
    layout = QtWidgets.QHBoxLayout(owner)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1 if isinstance(widget, QtWidgets.QSlider) else 0)


@stand_in("valueChanged(double)", "valueIsChanging(double)", "rangeChanged(double,double)")
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box that show one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    rangeChanged = Signal(float, float)

    _slider = None
    _spin_box = None

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *_parents(args))
        self._slider = QtWidgets.QSlider(Qt.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._spin_box = QtWidgets.QDoubleSpinBox()
        self._spin_box.setRange(0, 99)
        self._slider.valueChanged.connect(self._on_slider)
        self._spin_box.valueChanged.connect(self._on_spin_box)
        _row(self, self._slider, self._spin_box)

    def _on_slider(self, step):
        self._spin_box.setValue(self.minimum + (self.maximum - self.minimum) * step / _STEPS)

    def _on_spin_box(self, value):
        width = self.maximum - self.minimum
        self._slider.blockSignals(True)
        self._slider.setValue(round(_STEPS * (value - self.minimum) / width) if width > 0 else 0)
        self._slider.blockSignals(False)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def setRange(self, low, high):
        self._spin_box.setRange(_finite(low), _finite(high))
        self.rangeChanged.emit(self.minimum, self.maximum)

    def setMinimum(self, low):
        self.setRange(low, max(low, self.maximum))

    def setMaximum(self, high):
        self.setRange(min(self.minimum, high), high)

    def setValue(self, value):
        self._spin_box.setValue(value)

    def setDecimals(self, decimals):
        self._spin_box.setDecimals(decimals)

    def setSingleStep(self, step):
        self._spin_box.setSingleStep(step)

    def setSuffix(self, suffix):
        self._spin_box.setSuffix(suffix)

    def setPrefix(self, prefix):
        self._spin_box.setPrefix(prefix)

    def slider(self):
        return self._slider

    def spinBox(self):
        return self._spin_box

    minimum = Property(float, lambda self: self._spin_box.minimum, setMinimum)
    maximum = Property(float, lambda self: self._spin_box.maximum, setMaximum)
    value = Property(float, lambda self: self._spin_box.value, setValue)
    decimals = Property(int, lambda self: self._spin_box.decimals, setDecimals)
    singleStep = Property(float, lambda self: self._spin_box.singleStep, setSingleStep)
    suffix = Property(str, lambda self: self._spin_box.suffix, setSuffix)
    prefix = Property(str, lambda self: self._spin_box.prefix, setPrefix)
    orientation = kept(int, 1)
    pageStep = kept(float, 10.0)
    popupSlider = kept(bool, False)
    spinBoxVisible = kept(bool, True, lambda self: self._spin_box.setVisible(self.spinBoxVisible))
    synchronizeSiblings = kept(int, 0)
    tickInterval = kept(float, 0.0)
    tracking = kept(bool, True)


@stand_in()
class ctkDoubleSlider(ctkSliderWidget):
    """The slider alone."""

    def __init__(self, *args):
        ctkSliderWidget.__init__(self, *args)
        self._spin_box.hide()


@stand_in()
class ctkDoubleSpinBox(ctkSliderWidget):
    """The spin box alone."""

    def __init__(self, *args):
        ctkSliderWidget.__init__(self, *args)
        self._slider.hide()


@stand_in(
    "valuesChanged(double,double)",
    "minimumValueChanged(double)",
    "maximumValueChanged(double)",
    "rangeChanged(double,double)",
)
class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes that show an interval."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)

    _low = None
    _high = None

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *_parents(args))
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        self._low.setRange(0, 99)
        self._high.setRange(0, 99)
        self._high.setValue(99)
        self._low.valueChanged.connect(self._on_low)
        self._high.valueChanged.connect(self._on_high)
        _row(self, self._low, self._high)

    def _on_low(self, value):
        if value > self._high.value:
            self._high.setValue(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value, self._high.value)

    def _on_high(self, value):
        if value < self._low.value:
            self._low.setValue(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value, self._high.value)

    def setRange(self, low, high):
        for box in (self._low, self._high):
            box.setRange(_finite(low), _finite(high))
        self.rangeChanged.emit(self.minimum, self.maximum)

    def setValues(self, low, high):
        self._high.setValue(high)
        self._low.setValue(low)

    def setMinimumValue(self, value):
        self._low.setValue(value)

    def setMaximumValue(self, value):
        self._high.setValue(value)

    def setMinimum(self, low):
        self.setRange(low, self.maximum)

    def setMaximum(self, high):
        self.setRange(self.minimum, high)

    def setDecimals(self, decimals):
        self._low.setDecimals(decimals)
        self._high.setDecimals(decimals)

    def setSingleStep(self, step):
        self._low.setSingleStep(step)
        self._high.setSingleStep(step)

    minimum = Property(float, lambda self: self._low.minimum, setMinimum)
    maximum = Property(float, lambda self: self._low.maximum, setMaximum)
    minimumValue = Property(float, lambda self: self._low.value, setMinimumValue)
    maximumValue = Property(float, lambda self: self._high.value, setMaximumValue)
    decimals = Property(int, lambda self: self._low.decimals, setDecimals)
    singleStep = Property(float, lambda self: self._low.singleStep, setSingleStep)
    orientation = kept(int, 1)
    tracking = kept(bool, True)
