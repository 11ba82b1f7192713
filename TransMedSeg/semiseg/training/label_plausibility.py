"""Which pseudo-labels of whole cases cannot be right: empty ones, and those of a volume that no labeled case comes near.

A network that finds nothing in a case, or a heart of two liters, would learn from that as if a person had drawn it, and find it again in the next round. Such a
case waits for the next round; training goes on with the others. The limits are wide, for the labeled cases are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

LEAST, MOST = 0.2, 5.0
"""Of the median volume of the labeled cases."""


def implausible_cases(volumes_ml: Mapping[int, float], drawn_ml: Sequence[float]) -> list[int]:
    """The cases whose pseudo-labels are refused.

    Args:
        volumes_ml: Volume of all structures together, in mL, of each unlabeled case by its index.
        drawn_ml: The same of the labeled cases.
    """
    usual = median(drawn_ml)
    if usual <= 0:
        return []  # nothing to compare with
    return [index for index, volume in volumes_ml.items() if volume <= 0 or not LEAST * usual <= volume <= MOST * usual]


def words_for_refused(names: Sequence[str], count: int) -> str:
    """What the run says of them.

    Args:
        names: Of the refused cases.
        count: Unlabeled cases.
    """
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return f"The labels found in {len(names)} of {count} unlabeled cases are empty, or far from the size of the labeled ones; training goes on without them until the next round: {shown}."
