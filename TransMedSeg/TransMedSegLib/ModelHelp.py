"""The buttons below messages about models, which the panel and the dialog of models share."""

from __future__ import annotations

from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from .StartDetails import detailsAction


def modelActions(code: str, addFromFile: Callable[[], None]) -> tuple:
    """What can be done beside trying again.

    Args:
        addFromFile: Asks for a model file or archive and adds it.
    """
    return {
        "E401": ((_("Add model from file…"), addFromFile),),
        "E404": ((_("Update…"), lambda: slicer.app.openExtensionsManagerDialog()),),
        "E501": (detailsAction(),),
    }.get(code, ())
