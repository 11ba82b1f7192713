"""The bed's Qt follows PythonQt's rules, and refuses what PythonQt refuses."""

import pytest
import qt
import slicer
from bed import errors
from bed.pythonqt.ui_loader import UnknownWidgetClass


def test_properties_are_attributes():
    button = qt.QPushButton("Start")
    assert button.text == "Start" and button.enabled is True
    button.text = "Stop"
    button.enabled = False
    assert button.text == "Stop" and not button.isEnabled()
    button.setText("Go")
    assert button.text == "Go"


def test_properties_of_the_four_basic_types_convert():
    box = qt.QSpinBox()
    box.value = 3.0
    label = qt.QLabel()
    label.text = 5
    assert box.value == 3 and label.text == "5"


def test_property_of_another_type_is_refused():
    with pytest.raises(AttributeError, match="does not accept an object of type"):
        qt.QPushButton().icon = 5


def test_read_only_property_cannot_be_assigned():
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


@pytest.mark.parametrize("make", [qt.QPushButton, qt.QVBoxLayout, qt.QTimer, qt.QProcess, lambda: slicer.qMRMLWidget()])
def test_unknown_attribute_cannot_be_assigned(make):
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        make().enabld = True


@pytest.mark.parametrize("make", [qt.QColor, lambda: qt.QTableWidgetItem("x"), lambda: qt.QSize(1, 2)])
def test_unknown_attribute_of_a_value_cannot_be_assigned(make):
    with pytest.raises(AttributeError, match="creating new attributes"):
        make().note = 1


@pytest.mark.parametrize("make", [qt.QPushButton, qt.QVBoxLayout, lambda: slicer.qMRMLNodeComboBox()])
def test_unknown_attribute_cannot_be_read(make):
    with pytest.raises(AttributeError, match="has no attribute named 'txt'"):
        make().txt  # noqa: B018


def test_every_stand_in_refuses_unknown_attributes():
    from bed.pythonqt.wrapped import STAND_INS

    tried = 0
    for name, cls in STAND_INS.items():
        if (name[0] == "q" or name.startswith("ctk")) and issubclass(cls, qt.QWidget):
            tried += 1
            with pytest.raises(AttributeError, match="creating new attributes"):
                cls().noSuchThing = 1
    assert tried > 30


def test_methods_cannot_be_overwritten():
    with pytest.raises(AttributeError, match="Slot 'click' can not be overwritten"):
        qt.QPushButton().click = print


def test_private_names_of_a_plain_widget_cannot_be_assigned():
    with pytest.raises(AttributeError, match="creating new attributes"):
        qt.QWidget()._mine = 1


def test_derived_class_may_carry_attributes():
    class Panel(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.mine = 1

        def sizeHint(self):
            return qt.QSize(300, 200)

    panel = Panel()
    panel.other = 2
    outer = qt.QWidget()
    layout = qt.QVBoxLayout(outer)
    layout.addWidget(panel)
    assert (panel.mine, panel.other) == (1, 2)
    assert outer.sizeHint.width() >= 300  # C++ asked the Python method


def test_dynamic_properties_and_children_are_attributes():
    widget = qt.QWidget()
    widget.setProperty("SlicerParameterName", "threshold")
    assert widget.SlicerParameterName == "threshold"
    widget.SlicerParameterName = "other"
    assert widget.property("SlicerParameterName") == "other"
    child = qt.QLabel("x", widget)
    child.objectName = "resultLabel"
    assert widget.resultLabel is child and child.name == "resultLabel"


def test_class_name():
    assert qt.QPushButton().className() == "QPushButton"
    assert slicer.qMRMLNodeComboBox().className() == "qMRMLNodeComboBox"
    assert type("Mine", (qt.QLabel,), {})().className() == "Mine"


def test_children_are_found_by_class_or_class_name():
    outer = qt.QWidget()
    label, button = qt.QLabel("a", outer), qt.QPushButton("b", outer)
    button.name = "b"
    assert outer.findChildren("QLabel") == [label] == outer.findChildren(qt.QLabel)
    assert outer.findChild("QPushButton", "b") is button is outer.findChild(qt.QPushButton, "b")
    assert outer.findChild("QPushButton", "c") is None


def test_enumerators_are_numbers_and_reachable_from_objects():
    process = qt.QProcess()
    assert process.state() == process.NotRunning == 0
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop == 33


def test_timer_has_property_and_static_method_of_one_name():
    timer = qt.QTimer()
    timer.singleShot = True
    assert timer.singleShot is True
    assert callable(qt.QTimer.singleShot)


def test_signals_connect_by_signature():
    got = []
    button = qt.QPushButton()
    button.checkable = True
    button.connect("clicked()", lambda: got.append("plain"))
    button.connect("clicked(bool)", lambda checked: got.append(checked))
    button.connect("clicked(bool)", lambda: got.append("takes nothing"))
    button.clicked.connect(lambda *args: got.append(args))
    button.click()
    assert got == ["plain", True, "takes nothing", (True,)]


def test_calling_a_signal_emits_it():
    got = []
    button = qt.QPushButton()
    button.connect("clicked()", lambda: got.append(1))
    button.clicked()
    assert got == [1]


def test_disconnect_ends_one_connection():
    got = []
    box = qt.QSpinBox()

    def first(value):
        got.append(("first", value))

    box.connect("valueChanged(int)", first)
    box.connect("valueChanged(int)", lambda value: got.append(("second", value)))
    assert box.disconnect("valueChanged(int)", first) is True
    assert box.disconnect("valueChanged(int)", first) is False
    box.value = 7
    assert got == [("second", 7)]


def test_signals_connect_to_slots_and_signals():
    line, label = qt.QLineEdit(), qt.QLabel()
    line.connect("textChanged(QString)", label, "setText(QString)")
    line.text = "hello"
    assert label.text == "hello"
    first, second, got = qt.QPushButton(), qt.QPushButton(), []
    second.connect("clicked()", lambda: got.append(1))
    first.clicked.connect(second.clicked)
    first.click()
    assert got == [1]


@pytest.mark.parametrize("signature", ["clickd()", "clicked(int)", "clicked"])
def test_unknown_signature_is_refused(signature):
    with pytest.raises(ValueError):
        qt.QPushButton().connect(signature, print)


def test_signature_of_a_stand_in_must_be_spelled_as_in_cpp():
    selector = slicer.qMRMLNodeComboBox()
    selector.connect("currentNodeChanged(vtkMRMLNode*)", print)
    with pytest.raises(ValueError, match="has no signal"):
        selector.connect("currentNodeChanged(vtkMRMLNode)", print)


def test_exception_in_a_slot_is_collected(capfd):
    def fail():
        raise RuntimeError("the button failed")

    button = qt.QPushButton()
    button.connect("clicked()", fail)
    button.click()
    (text,) = errors.take()
    assert "the button failed" in text


def _write_ui(path, body):
    path.write_text(f'<ui version="4.0"><class>X</class><widget class="qMRMLWidget" name="X">{body}</widget></ui>')
    return str(path)


def test_ui_file_with_unknown_widget_class_is_refused(tmp_path):
    body = '<layout class="QVBoxLayout"><item><widget class="qMRMLNoSuchWidget" name="w"/></item></layout>'
    with pytest.raises(UnknownWidgetClass, match="qMRMLNoSuchWidget"):
        slicer.util.loadUI(_write_ui(tmp_path / "x.ui", body))


def test_ui_file_with_unknown_connection_is_refused(tmp_path):
    body = '<layout class="QVBoxLayout"><item><widget class="QPushButton" name="b"/></item></layout>'
    path = _write_ui(tmp_path / "x.ui", body)
    text = (
        (tmp_path / "x.ui")
        .read_text()
        .replace(
            "</ui>",
            "<connections><connection><sender>b</sender><signal>clickd()</signal>"
            "<receiver>X</receiver><slot>hide()</slot></connection></connections></ui>",
        )
    )
    (tmp_path / "x.ui").write_text(text)
    with pytest.raises(ValueError, match="has no signal"):
        slicer.util.loadUI(path)


def test_settings_are_kept_apart_from_the_users_own():
    assert qt.QSettings().fileName().startswith(slicer.app.temporaryPath.rsplit("/", 1)[0])
    qt.QSettings().setValue("Bed/number", 5)
    assert slicer.util.settingsValue("Bed/number", 0, converter=int) == 5
    assert slicer.util.settingsValue("Bed/absent", 7) == 7
