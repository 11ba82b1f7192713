"""Whether this Python has the packages that DICOM needs, in versions known to work."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from ..errors import InputError

# highdicom 0.26 and older lose the references to the source images of frames with given positions.
_MINIMUM = {"pydicom": (3, 0, 1), "highdicom": (0, 27)}


def check_requirements() -> None:
    """Refuses before anything is read or written.

    Raises:
        InputError: A package is missing or too old (E906).
    """
    for package, minimum in _MINIMUM.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = ""
        numbers = tuple(int(part) for part in re.findall(r"\d+", found)[: len(minimum)])
        if numbers < minimum:
            wanted = ".".join(map(str, minimum))
            raise InputError(
                f"DICOM-SEG needs {package} {wanted} or newer; found {found or 'none'}.",
                code="E906",
                hint=f"Install it (pip install '{package}>={wanted}'), or save the mask as .seg.nrrd instead.",
            )
