"""Names of the left atrium and its parts, their SNOMED CT codes and colors, and Slicer's text form of them.

Standard library only. The category is 123037004 as in Slicer's and dcmqi's lists; the current CID 7150 has 91723000 for
the same thing, so concepts are compared by scheme and value and never by their meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Concept:
    """A coded concept (PS3.3 8.8). Equal when scheme and value are."""

    value: str
    scheme: str
    meaning: str = field(compare=False)


@dataclass(frozen=True)
class Structure:
    """What a segment is.

    Args:
        category: Segmented Property Category (CID 7150).
        type: Segmented Property Type.
        color_rgb: Recommended display color, 0 to 255.
        type_modifier: Such as a laterality.
        region: Anatomic Region, where category and type do not say it.
        region_modifier: Such as a laterality of the region.
    """

    category: Concept
    type: Concept
    color_rgb: tuple[int, int, int] | None = field(default=None, compare=False)
    type_modifier: Concept | None = None
    region: Concept | None = None
    region_modifier: Concept | None = None


ANATOMICAL_STRUCTURE = Concept("123037004", "SCT", "Anatomical Structure")
TISSUE = Concept("85756007", "SCT", "Tissue")
BODY_SUBSTANCE = Concept("91720002", "SCT", "Body Substance")
ALTERED_STRUCTURE = Concept("49755003", "SCT", "Morphologically Altered Structure")
LEFT_ATRIUM = Concept("82471001", "SCT", "Left atrium")


def _part(value: str, meaning: str, color_rgb: tuple[int, int, int]) -> Structure:
    return Structure(ANATOMICAL_STRUCTURE, Concept(value, "SCT", meaning), color_rgb)


# Color of the left atrium: Slicer's DICOM master list; the others are ours. The wall has no code of its own in the
# lists of Slicer and DICOM, hence tissue of the left atrium.
STRUCTURES: dict[str, Structure] = {
    "left atrium": Structure(ANATOMICAL_STRUCTURE, LEFT_ATRIUM, (203, 108, 81)),
    "left atrial cavity": Structure(
        BODY_SUBSTANCE, Concept("87612001", "SCT", "Blood"), (216, 101, 79), region=LEFT_ATRIUM
    ),
    "left atrial wall": Structure(TISSUE, LEFT_ATRIUM, (186, 77, 64), region=LEFT_ATRIUM),
    "left atrial scar": Structure(
        TISSUE, Concept("12402003", "SCT", "Scar tissue"), (240, 210, 80), region=LEFT_ATRIUM
    ),
    "left atrial fibrosis": Structure(
        ALTERED_STRUCTURE, Concept("112674009", "SCT", "Fibrosis"), (230, 180, 60), region=LEFT_ATRIUM
    ),
    "left atrial appendage": _part("33626005", "Left auricular appendage", (150, 98, 160)),
    "pulmonary veins": _part("122972007", "Pulmonary vein", (0, 151, 206)),
    "left superior pulmonary vein": _part("43863001", "Left superior pulmonary vein", (38, 170, 216)),
    "left inferior pulmonary vein": _part("51249003", "Left inferior pulmonary vein", (76, 188, 226)),
    "right superior pulmonary vein": _part("8629005", "Right superior pulmonary vein", (0, 122, 171)),
    "right inferior pulmonary vein": _part("113273001", "Right inferior pulmonary vein", (0, 96, 140)),
    "mitral valve": _part("91134007", "Mitral valve", (159, 226, 191)),
}

_ALIASES = {
    "la": "left atrium",
    "atrium": "left atrium",
    "left atrium cavity": "left atrial cavity",
    "la cavity": "left atrial cavity",
    "la blood pool": "left atrial cavity",
    "laendo": "left atrial cavity",
    "la endocardium": "left atrial cavity",
    "la wall": "left atrial wall",
    "left atrium wall": "left atrial wall",
    "la scar": "left atrial scar",
    "scar": "left atrial scar",
    "left atrium scar": "left atrial scar",
    "la fibrosis": "left atrial fibrosis",
    "fibrosis": "left atrial fibrosis",
    "laa": "left atrial appendage",
    "left atrium appendage": "left atrial appendage",
    "appendage": "left atrial appendage",
    "pv": "pulmonary veins",
    "pulmonary vein": "pulmonary veins",
    "lspv": "left superior pulmonary vein",
    "lipv": "left inferior pulmonary vein",
    "rspv": "right superior pulmonary vein",
    "ripv": "right inferior pulmonary vein",
    "mv": "mitral valve",
}
# What Slicer gives to a segment nobody has named yet; it says nothing.
_UNNAMED = (TISSUE, TISSUE)
_CONTEXT = "Segmentation category and type - DICOM master list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


def structure_named(name: str) -> Structure | None:
    """The structure of a label name, whatever its case, underscores or a remark in brackets; None when unknown."""
    plain = re.sub(r"\(.*?\)", " ", name.lower())
    plain = re.sub(r"[\s_\-.]+", " ", plain).strip()
    return STRUCTURES.get(_ALIASES.get(plain, plain))


def terminology_entry(structure: Structure) -> str:
    """Slicer's segment tag ``TerminologyEntry``."""
    parts = [_CONTEXT, *map(_text, (structure.category, structure.type, structure.type_modifier)), _REGION_CONTEXT]
    return "~".join([*parts, *map(_text, (structure.region, structure.region_modifier))])


def parse_terminology_entry(entry: str) -> Structure | None:
    """The structure of Slicer's tag ``TerminologyEntry``; None when it has no category or type, or says nothing.

    Entries saved by older versions may end early.
    """
    parts = entry.split("~") + [""] * 7
    category, type_, type_modifier = (_concept(part) for part in parts[1:4])
    region, region_modifier = (_concept(part) for part in parts[5:7])
    if category is None or type_ is None or ((category, type_) == _UNNAMED and region is None):
        return None
    known = next((s for s in STRUCTURES.values() if (s.category, s.type) == (category, type_)), None)
    color_rgb = known.color_rgb if known else None
    return Structure(category, type_, color_rgb, type_modifier, region, region_modifier)


def _text(concept: Concept | None) -> str:
    return "^^" if concept is None else f"{concept.scheme}^{concept.value}^{concept.meaning}"


def _concept(text: str) -> Concept | None:
    scheme, value, meaning = (text.split("^") + ["", "", ""])[:3]
    return Concept(value, scheme, meaning or value) if scheme and value else None
