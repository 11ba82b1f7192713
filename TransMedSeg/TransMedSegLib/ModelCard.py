"""The card of a model in plain words: for what, trained on what, how good, under which terms.

What the engine knows is inside of the model file. What people add later (name, license, convention of the veins) and
what was measured later (Dice) lies beside it in `model-card.json`, or in the `result.json` of the training.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from slicer.i18n import tr as _

from semiseg.protocol import BASELINE_FOLDER, JOB_FILE, RESULT_FILE, write_text_atomically

from .Counted import counted
from .ModelFile import hashOf, readCard
from .RunState import readJson

CARD_FILE = "model-card.json"
FEW_CASES = 5
"""Below this a mean says little of the next case."""


@dataclass(frozen=True)
class ModelCard:
    """A model and what is known of it.

    Attributes:
        path: The model file.
        inside: The card that the engine wrote into the file.
        beside: What was added to it: name, version, license, convention, url, sha256, scores.
    """

    path: Path
    inside: dict
    beside: dict = field(default_factory=dict)

    @property
    def isTrainedHere(self):
        """Whether the file lies where a training of this computer has put it."""
        return (self.path.parent / JOB_FILE).is_file()

    @property
    def name(self):
        return str(self.beside.get("name") or self.inside.get("name") or self.path.stem)

    @property
    def title(self):
        """What a list shows: the name, with the version or the training run to tell models apart."""
        version = str(self.beside.get("version") or (runOf(self.path) if self.isTrainedHere else ""))
        return f"{self.name} · {version}" if version else self.name

    @property
    def license(self):
        return str(self.beside.get("license") or self.inside.get("license") or "")

    @property
    def convention(self):
        return str(self.beside.get("convention") or self.inside.get("convention") or "")

    @property
    def spacingMm(self):
        """(lowest, highest) spacing in mm among the training volumes, over all axes; None where it is not known."""
        try:
            values = [float(one) for pair in self.inside["spacing_range_mm"] for one in pair]
        except (KeyError, TypeError, ValueError):
            return None
        return (min(values), max(values)) if values and min(values) > 0 else None

    @property
    def typicalSpacingMm(self):
        """(columns, rows, slices) in mm in the middle of the training volumes; None where it is not known."""
        try:
            lowest, highest = ([float(one) for one in pair] for pair in self.inside["spacing_range_mm"])
        except (KeyError, TypeError, ValueError):
            return None
        if len(lowest) != 3 or len(highest) != 3 or min(lowest) <= 0:
            return None
        return tuple((low * high) ** 0.5 for low, high in zip(lowest[::-1], highest[::-1]))

    @property
    def isForCt(self):
        """Whether it reads Hounsfield units, between two fixed values; None where the card does not say."""
        preprocessing = self.inside.get("preprocessing")
        intensity = preprocessing.get("intensity") if isinstance(preprocessing, dict) else None
        return {"window": True, "zscore": False}.get(intensity)

    @property
    def dice(self):
        """{structure: (mean, number of cases)} on held-out volumes; empty where none were measured."""
        found = {}
        try:
            for label, metrics in (self.beside.get("scores") or {}).items():
                one = metrics.get("dice") or {}
                if one.get("count") and one.get("mean") is not None and math.isfinite(one["mean"]):
                    found[label] = (float(one["mean"]), int(one["count"]))
        except (AttributeError, TypeError, ValueError):
            return {}  # written by a stranger
        return found

    def short(self):
        """One line under the list of models."""
        parts = [_sizeText(self.path.stat().st_size)]
        parts += [_diceText(mean, count) for mean, count in self.dice.values()]
        return " · ".join([*parts, self.license or _("no license stated"), _("research use")])

    def lines(self):
        """[(what, text)] for the whole card."""
        inside, training = self.inside, self.inside.get("training") or {}
        counts = training.get("cases") or {}
        trained = _("{labeled} labeled and {unlabeled} unlabeled volumes").format(
            labeled=counts.get("labeled", "?"), unlabeled=counts.get("unlabeled", "?")
        )
        method = " ".join(str(part) for part in (training.get("method"), training.get("preset")) if part)
        dice = [f"{label}: {_diceText(mean, count)}" for label, (mean, count) in self.dice.items()]
        low, high = self.spacingMm or (None, None)
        return [
            (_("Name"), self.title),
            (_("Finds"), ", ".join(str(label.get("name", "?")) for label in inside["labels"])),
            (_("Trained on"), trained + (f" ({method})" if method else "")),
            (_("Spacing of these"), _("{low} to {high} mm").format(low=f"{low:.2g}", high=f"{high:.2g}") if low else _("not stated")),
            (_("Quality"), "; ".join(dice) or _("not measured on held-out volumes")),
            (_("Veins"), self.convention or _("not stated; veins and mitral plane are cut where the training labels cut them")),
            (_("License"), self.license or _("not stated; ask its author")),
            (_("Use"), _("Research use only. Not a medical device.")),
            (_("File"), f"{self.path} ({_sizeText(self.path.stat().st_size)})"),
            (_("SHA-256"), hashOf(self.path)),
            (_("Written by"), f"TransMedSeg {inside.get('semiseg_version', '?')}"),
        ]

    def noted(self, **values):
        """The card with more of what lies beside the file, written there.

        Raises:
            OSError: The folder cannot be written.
        """
        beside = {**self.beside, **{key: value for key, value in values.items() if value is not None}}
        write_text_atomically(self.path.parent / CARD_FILE, json.dumps(beside, indent=2, ensure_ascii=False) + "\n")
        return ModelCard(self.path, self.inside, beside)


def runOf(path):
    """Name of the training run that a model file comes from."""
    folder = Path(path).parent
    return _("{run}, labels only").format(run=folder.parent.name) if folder.name == BASELINE_FOLDER else folder.name


def cardOf(path):
    """Reads the card of a model file and what lies beside it.

    Raises:
        ModelRefused: The file is not usable.
    """
    path = Path(path)
    inside = readCard(path)
    scores = readJson(path.parent / RESULT_FILE).get("scores")
    beside = {"scores": scores} if isinstance(scores, dict) else {}
    return ModelCard(path, inside, {**beside, **readJson(path.parent / CARD_FILE)})


def _diceText(mean, count):
    text = counted(count, _("Dice {mean} on {count} case"), _("Dice {mean} on {count} cases"), mean=f"{mean:.2f}")
    return text if count >= FEW_CASES else text + _(" (too few to be sure)")


def _sizeText(size):
    return _("{size} MB").format(size=f"{size / 1e6:.1f}") if size >= 1e5 else _("{size} kB").format(size=f"{size / 1e3:.1f}")
