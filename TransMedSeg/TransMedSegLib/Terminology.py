"""Names of structures and Slicer's terminology strings. The codes are read from Resources/LeftAtrium.term.json."""

import json
from functools import cache
from pathlib import Path

import slicer
import vtk

LEFT_ATRIUM = "left atrium"
TERMINOLOGY_TAG = "TerminologyEntry"
_FILE = Path(__file__).parent.parent / "Resources" / "LeftAtrium.term.json"
# Slicer knows these codes from its own list too; its name in the entry makes them readable without our file.
_CONTEXT = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"


@cache
def structures():
    """Name in lower case -> {"entry": terminology string, "color": RGB 0..1, "meaning": name of the code}."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    found = {}
    for category in document["SegmentationCodes"]["Category"]:
        for kind in category["Type"]:
            name = (kind.get("3dSlicerLabel") or kind["CodeMeaning"]).lower()
            color = kind.get("recommendedDisplayRGBValue")
            found[name] = {
                "entry": _entry(category, kind),
                "color": tuple(part / 255 for part in color) if color else None,
                "meaning": kind["CodeMeaning"],
            }
    return found


def _entry(category, kind):
    code = lambda one: f"{one['CodingSchemeDesignator']}^{one['CodeValue']}^{one['CodeMeaning']}"
    return f"{_CONTEXT}~{code(category)}~{code(kind)}~^^~{_REGIONS}~^^~^^"


def structureNamed(name):
    """The structure a segment's name stands for, without what stands in brackets; None for another name."""
    return structures().get(name.split("(")[0].strip().lower())


def setTerminology(segment, name, keepColor=False):
    """Gives a segment the code and the color of a structure, such as "left atrium".

    Raises:
        KeyError: The structure is not in our list.
    """
    structure = structures()[name.lower()]
    segment.SetTag(TERMINOLOGY_TAG, structure["entry"])
    if structure["color"] and not keepColor:
        segment.SetColor(structure["color"])


def hasTerminology(segment):
    """Whether a segment has a code that DICOM can take: a category and a type, each with a value and a scheme.

    "Tissue" alone is what Slicer gives every new segment: it says nothing about the structure.
    """
    parts = tagOf(segment, TERMINOLOGY_TAG).split("~")
    if len(parts) < 3:
        return False
    codes = [part.split("^") for part in parts[1:3]]
    return all(len(code) == 3 and all(code) for code in codes) and codes[1][1] != "85756007"


def tagOf(segment, name, default=""):
    """The value of a segment's tag."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else default


def loadOurTerminology():
    """Offers our list in Slicer's terminology selector. Returns whether the file could be loaded."""
    logic = slicer.modules.terminologies.logic()
    return bool(logic.LoadTerminologyFromFile(str(_FILE)))
