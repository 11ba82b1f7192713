"""A cohort of phantoms on disk: few labeled ones, many unlabeled ones, some held out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data.atomic import write_json
from ..data.files import write_labels, write_volume
from ..data.segmentation import Segment
from ..errors import InputError
from .phantom import SPACING_MM, make_phantom
from .scanner import SITES

Report = Callable[..., None]

SITE_MIX = {"labeled": {"A": 1.0}, "unlabeled": {"A": 0.5, "B": 0.1, "C": 0.4}, "held_out": {"A": 0.5, "B": 0.1, "C": 0.4}}
"""Share of each site in each part: what is labeled comes from one scanner, what will be segmented from all. Dark blood (site B) is rare in practice."""

_FOLDERS = {"labeled": "labeled", "unlabeled": "unlabeled", "held_out": "heldout"}
_ATRIUM = Segment(value=1, name="left atrium")


def make_cohort(
    out_dir: Path,
    num_labeled: int = 4,
    num_unlabeled: int = 16,
    num_held_out: int = 6,
    seed: int = 0,
    size: str = "half",
    full_field_of_view: bool = False,
    site_mix: dict[str, dict[str, float]] | None = None,
    report: Report = lambda kind, **values: None,
) -> Path:
    """Writes ``labeled``, ``unlabeled`` and ``heldout`` folders of NIfTI files and ``cohort.json``, which is written last.

    Unlabeled phantoms get no masks on disk. The same arguments write the same files.

    Args:
        out_dir: Made when it is not there.
        num_labeled: Phantoms with masks for training; from site A unless ``site_mix`` says otherwise.
        num_unlabeled: Phantoms without masks.
        num_held_out: Phantoms with masks for the score.
        seed: Of the whole cohort; a phantom depends on it and on its place alone.
        size: "full", "half" or "quarter" of the benchmark's resolution.
        full_field_of_view: The whole chest instead of a crop around the atrium.
        site_mix: Like ``SITE_MIX``.
        report: Receives ``progress`` events.

    Returns:
        The path of ``cohort.json``.

    Raises:
        InputError: A size or site that does not exist, a negative number, or a folder that cannot be written.
    """
    mix = {**SITE_MIX, **(site_mix or {})}
    numbers = {"labeled": num_labeled, "unlabeled": num_unlabeled, "held_out": num_held_out}
    if size not in SPACING_MM:
        raise InputError(f"The size of phantoms is one of {', '.join(SPACING_MM)}; found {size!r}.")
    if min(numbers.values()) < 0 or any(site not in SITES for part in mix.values() for site in part):
        raise InputError(f"Numbers of phantoms must not be negative and sites are {', '.join(SITES)}; found {numbers} and {mix}.")
    out_dir, total, done, started = Path(out_dir), sum(numbers.values()), 0, time.monotonic()
    facts: dict[str, dict[str, object]] = {}
    for part, (role, count) in enumerate(numbers.items()):
        sites = _sites(mix[role], count, np.random.default_rng([seed, part]))
        for place in range(count):
            name = f"{role.replace('_', '')}{place + 1:03d}"
            facts[name] = _write_one(out_dir / _FOLDERS[role], name, (seed, part, place), sites[place], size, full_field_of_view, role)
            done += 1
            rate = done / (time.monotonic() - started)
            report("progress", what="phantoms", done=done, total=total, rate_per_s=round(rate, 4), eta_s=round((total - done) / rate, 1))
    document = {"seed": seed, "size": size, "full_field_of_view": full_field_of_view, "site_mix": mix, "phantoms": facts}
    write_json(out_dir / "cohort.json", document)
    return out_dir / "cohort.json"


def _sites(mix: dict[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """The sites of a part in random order, as close to their shares as whole numbers allow."""
    shares = np.array(list(mix.values())) / sum(mix.values())
    edges = np.round(np.cumsum(shares) * count).astype(int)
    ordered = [site for site, low, high in zip(mix, [0, *edges[:-1]], edges) for _ in range(high - low)]
    return [ordered[place] for place in rng.permutation(count)]


def _write_one(
    folder: Path, name: str, seed: tuple[int, ...], site: str, size: str, full_field_of_view: bool, role: str
) -> dict[str, object]:
    phantom = make_phantom(seed, site, size, full_field_of_view)
    folder.mkdir(parents=True, exist_ok=True)
    if role != "unlabeled":
        write_labels(folder / f"{name}_label.nii.gz", phantom.label, [_ATRIUM])
    write_volume(folder / f"{name}.nii.gz", phantom.image)
    return phantom.facts
