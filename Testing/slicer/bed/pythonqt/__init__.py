"""PySide6 made to follow the rules of PythonQt, the Qt binding inside Slicer.

PySide6 and PythonQt wrap the same C++ library, and differ in what Python code sees. `emulate()` changes PySide6 for
the whole process, so that a scripted module meets PythonQt's rules:

* a Qt property is an attribute: `button.enabled = False`, `label.text` (attributes.py);
* an attribute that does not exist cannot be read nor assigned (attributes.py);
* signals are connected by signature, `button.connect("clicked()", f)`, and emitted by a call (signals.py);
* enumerators are integers and can be read from instances (an environment variable, set in bed/__init__.py);
* some methods exist that PySide6 lacks, such as `className()` and `delete()` (extras.py);
* a .ui file may name Slicer's and CTK's own widget classes, and no others (ui_loader.py).
"""

_emulated = False


def emulate():
    """Changes PySide6 once per process. Later calls do nothing."""
    global _emulated
    if _emulated:
        return
    from . import attributes, extras

    extras.install()
    attributes.install()
    _emulated = True
