"""A cohort of phantoms on disk: few labeled ones, many unlabeled ones, some held out."""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..data.atomic import write_json
from ..data.files import label_files, write_labels, write_volume
from ..data.segmentation import Segment
from ..errors import InputError
from .phantom import SPACING_MM, Phantom, make_phantom
from .scanner import SITES

Report = Callable[..., None]

SITE_MIX = {
    "labeled": {"A": 1.0},
    "unlabeled": {"A": 0.5, "C": 0.4, "B": 0.1},
    "held_out": {"A": 0.5, "C": 0.4, "B": 0.1},
}
"""Share of each site in each part: labels come from one scanner, everything else from all of them. Dark blood (site B)
is as rare as in practice."""

COHORT_FILE = "cohort.json"
_FOLDERS = {"labeled": "labeled", "unlabeled": "unlabeled", "held_out": "heldout"}
_ATRIUM = Segment(value=1, name="left atrium")
_APPENDAGE = Segment(value=2, name="left atrial appendage")


def make_cohort(
    out_dir: Path,
    num_labeled: int = 4,
    num_unlabeled: int = 16,
    num_held_out: int = 6,
    seed: int = 0,
    size: str = "half",
    full_field_of_view: bool = False,
    site_mix: dict[str, dict[str, float] | list[str]] | None = None,
    keep_answers: bool = False,
    appendage: dict[str, float] | None = None,
    report: Report = lambda kind, **values: None,
) -> Path:
    """Writes ``labeled``, ``unlabeled`` and ``heldout`` with ``images`` and ``labels``, and ``cohort.json`` last, whose path it returns.

    The same arguments write the same files, and a smaller cohort is the beginning of a larger one. A cohort that was in
    the folder before makes room.

    Args:
        out_dir: Made when it is not there.
        num_labeled: Phantoms with masks for training.
        num_unlabeled: Phantoms without masks.
        num_held_out: Phantoms whose masks are for the score alone.
        seed: Of the whole cohort.
        size: A key of ``SPACING_MM``: "full" is the resolution of the left-atrium benchmark.
        full_field_of_view: The whole chest instead of a crop around the atrium.
        site_mix: Sites of some of the parts; ``SITE_MIX`` for the others. Shares, or the sites one after the other, the last of
            them for all that follow: ``{"labeled": ["A", "A", "B"]}``.
        keep_answers: Also write the masks of the unlabeled phantoms, to a folder ``answers`` that training ignores: for runs with all labels.
        appendage: Share of the phantoms of each part whose appendage has not been removed, 1 where a part is not named.
            The appendage is then a structure of its own (value 2): a rare one. None or empty: a part of the atrium.
        report: Receives ``progress`` events.

    Raises:
        InputError: A size, part or site that does not exist, a negative number, or a folder that cannot be written (E809, E807) or holds other
            volumes (E809).
    """
    out_dir = Path(out_dir)
    mix = {**SITE_MIX, **(site_mix or {})}
    counts = {"labeled": num_labeled, "unlabeled": num_unlabeled, "held_out": num_held_out}
    check_recipe(counts, mix, size, appendage or {})
    plans = list(_plans(counts, mix, seed))
    _make_room(out_dir, {name for name, *_ in plans})
    make = functools.partial(make_phantom, size=size, full_field_of_view=full_field_of_view)
    phantoms = _make_all(out_dir, plans, make, appendage, keep_answers, report)
    recipe = {"seed": seed, "size": size, "full_field_of_view": full_field_of_view, "site_mix": mix, **counts}
    recipe.update({"appendage": appendage} if appendage else {})
    write_json(out_dir / COHORT_FILE, {"recipe": recipe, "phantoms": phantoms})
    return out_dir / COHORT_FILE


def _make_all(
    out_dir: Path,
    plans: list[tuple[str, str, str, tuple[int, ...]]],
    make: Callable[..., Phantom],
    appendage: dict[str, float] | None,
    keep_answers: bool,
    report: Report,
) -> dict[str, dict[str, Any]]:
    """Makes and writes the phantoms one after the other. Returns what is known of each by name."""
    phantoms, started = {}, time.monotonic()
    for done, (name, role, site, seed) in enumerate(plans, start=1):
        phantom = make(seed, site, appendage=_has_appendage(appendage, role, seed[-1]) if appendage else None)
        _write(out_dir, name, role, phantom, keep_answers, [_ATRIUM, _APPENDAGE] if appendage else [_ATRIUM])
        phantoms[name] = {"role": role, **phantom.facts}
        _tell(report, done, len(plans), time.monotonic() - started)
    return phantoms


def _write(out_dir: Path, name: str, role: str, phantom: Phantom, keep_answers: bool, segments: list[Segment]) -> None:
    """Image and, where the role has one, mask of a phantom."""
    if role != "unlabeled" or keep_answers:
        folder = out_dir / ("answers" if role == "unlabeled" else _FOLDERS[role])
        write_labels(folder / "labels" / f"{name}.nii.gz", phantom.label, segments)
    write_volume(out_dir / _FOLDERS[role] / "images" / f"{name}.nii.gz", phantom.image)


def _tell(report: Report, done: int, total: int, seconds: float) -> None:
    rate = done / seconds
    report("progress", what="phantoms", done=done, total=total, rate_per_s=rate, eta_s=(total - done) / rate)


def check_recipe(
    counts: dict[str, int], mix: dict[str, dict[str, float] | list[str]], size: str, appendage: dict[str, float]
) -> None:
    """Looks at what a cohort is to be made of.

    Args:
        counts: Phantoms of each part: "labeled", "unlabeled", "held_out".
        mix, size, appendage: As of :func:`make_cohort`.

    Raises:
        InputError: A size, part, site or share that does not exist, or a negative number.
    """
    _check_shares(appendage, counts)
    if size not in SPACING_MM:
        raise InputError(f"The size of phantoms is one of {', '.join(SPACING_MM)}; found {size!r}.")
    if min(counts.values()) < 0:
        raise InputError(f"Numbers of phantoms are 0 or more; found {counts}.")
    for role, shares in mix.items():
        known = role in counts and isinstance(shares, (dict, list)) and all(isinstance(site, str) and site in SITES for site in shares)
        if not known or not shares or (isinstance(shares, dict) and not _are_shares(list(shares.values()))):
            raise InputError(
                f"The site mix of {role!r} does not fit: {shares}.",
                hint=f"Give shares of the sites {', '.join(SITES)}, or a list of them, for {', '.join(counts)}.",
            )


def _are_shares(values: list[Any]) -> bool:
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
    return numbers and min(values) >= 0 and sum(values) > 0


def _check_shares(shares: dict[str, float], counts: dict[str, int]) -> None:
    for role, share in shares.items():
        if role not in counts or isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise InputError(
                f"The share of phantoms with an appendage does not fit: {role!r}: {share!r}.",
                hint=f"Give numbers from 0 to 1 for {', '.join(counts)}.",
            )


def _has_appendage(shares: dict[str, float], role: str, place: int) -> bool:
    """Spread evenly over the places, the first one with: any beginning of the list has its share."""
    share = shares.get(role, 1.0)
    return math.ceil(share * (place + 1) - 1e-9) > math.ceil(share * place - 1e-9)


def _plans(
    counts: dict[str, int], mix: dict[str, dict[str, float] | list[str]], seed: int
) -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    """Name, role, site and seed of each phantom; those of a place do not depend on how many follow."""
    for part, (role, count) in enumerate(counts.items()):
        for place, site in enumerate(itertools.islice(_sites(mix[role]), count)):
            yield f"{role.replace('_', '')}{place + 1:03d}", role, site, (seed, part, place)


def _sites(mix: dict[str, float] | list[str]) -> Iterator[str]:
    """The site of every place, without end."""
    if isinstance(mix, list):
        yield from itertools.chain(mix, itertools.repeat(mix[-1]))
        return
    total, used = sum(mix.values()), dict.fromkeys(mix, 0)
    for place in itertools.count(1):
        # The site that is furthest behind its share: any beginning of the list is mixed as asked.
        site = max(used, key=lambda one: mix[one] / total * place - used[one])
        used[site] += 1
        yield site


def _make_room(out_dir: Path, names: set[str]) -> None:
    """Removes what an earlier cohort wrote and this one will not; refuses a folder with files of others."""
    images = {
        path.name.removesuffix(".nii.gz"): path
        for folder in _FOLDERS.values()
        for path in sorted((out_dir / folder).rglob("*"))
        if path.is_file() and path.parent.name != "labels"
    }
    before = out_dir / COHORT_FILE
    old = _names_in(before)
    strangers = sorted(set(images) - old - names)
    if strangers:
        raise InputError(
            f"The folder for the phantoms holds {len(strangers)} files of others: {images[strangers[0]].name}.",
            code="E809",
            hint="Choose an empty folder.",
            path=out_dir,
        )
    before.unlink(missing_ok=True)
    for name in old:
        for folder in (*_FOLDERS.values(), "answers"):
            files = [out_dir / folder / "images" / f"{name}.nii.gz"]
            for path in files + label_files(out_dir / folder / "labels" / f"{name}.nii.gz"):
                path.unlink(missing_ok=True)


def _names_in(path: Path) -> set[str]:
    """Phantoms of an earlier cohort; none where its list is damaged."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["phantoms"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
