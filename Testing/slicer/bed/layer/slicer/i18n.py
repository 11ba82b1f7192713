"""Stand-in for slicer.i18n: texts stay in English."""


def getContext(sourceFile):
    """Returns the translation context of a Python source file: the file's name without its ending."""
    from pathlib import Path

    return Path(sourceFile).stem


def translate(context, text):
    """Returns `text`, or what `slicer.app` makes of it (a test may install a translation there)."""
    import slicer

    return slicer.app.translate(context, text)


def tr(text):
    """Translates a text of the calling module.

    Slicer's own asks `inspect.stack()` for the caller, which takes milliseconds; the bed looks at one frame.
    """
    import sys

    return translate(getContext(sys._getframe(1).f_code.co_filename), text)
