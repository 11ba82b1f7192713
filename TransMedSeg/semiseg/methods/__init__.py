"""The methods by name. Strings only, so that listing them imports nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    from .base import AbstractMethod


class MethodEntry(NamedTuple):
    """Where a method is and what it is called.

    Attributes:
        location: ``"module:Class"`` inside this package.
        title: One line for people.
        paper: Authors, venue and year.
    """

    location: str
    title: str
    paper: str


METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry("supervised:Supervised", "Labeled data only", "the baseline"),
    "mean_teacher": MethodEntry("mean_teacher:MeanTeacher", "Mean Teacher", "Tarvainen and Valpola, NeurIPS 2017"),
    "ua_mt": MethodEntry("ua_mt:UAMeanTeacher", "Uncertainty-aware Mean Teacher", "UA-MT, Yu et al., MICCAI 2019"),
    "cps": MethodEntry("cps:CPS", "Cross pseudo-supervision", "Chen et al., CVPR 2021"),
    "bcp": MethodEntry("bcp:BCP", "Bidirectional copy-paste", "Bai et al., CVPR 2023"),
    "graphcl": MethodEntry("graphcl:GraphCL", "Graph-based clustering", "GraphCL, ICML 2025"),
    "micd": MethodEntry("micd:MICD", "Masked image consistency and discrepancy", "Zhou et al., arXiv 2503.14013, 2025"),
    "semigda": MethodEntry("semigda:SemiGDA", "Alignment of image and mask latents (experimental)", "SemiGDA, Huang et al., CVPR 2026"),
    "transmedseg": MethodEntry("transmedseg:TransMedSeg", "Transferable semantic augmentation", "TransMedSeg, 2025"),
}


def load_method(name: str) -> type[AbstractMethod]:
    """The class of a method.

    Raises:
        InputError: There is no method of this name.
    """
    if name not in METHODS:
        raise InputError(f"There is no method named {name!r}.", hint=f"Choose one of {', '.join(METHODS)}.")
    module_name, class_name = METHODS[name].location.split(":")
    return getattr(importlib.import_module(f".{module_name}", __name__), class_name)
