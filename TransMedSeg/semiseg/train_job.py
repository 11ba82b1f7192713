"""What the verb ``train`` is asked for, and every number it leaves open filled in."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from .data.augment import AugmentOptions
from .data.cache import PreparedSet
from .data.case_list import CaseList, Layout, structures
from .data.cases import find_cases
from .data.files import read_volume
from .data.preprocess import Preprocessing
from .data.window import window_under_masks
from .errors import InputError
from .job_options import options_from
from .methods import METHODS, load_method
from .methods.base import AbstractMethod
from .methods.tsa_term import DEFAULT_WEIGHT
from .networks import CHOOSABLE, DEFAULT_NETWORK, MONAI, network_entry
from .networks.monai_network import MonaiOptions, sides_of
from .networks.monai_table import MONAI_NETWORKS
from .training.options import TrainOptions
from .training.plan import GOALS, Plan, make_plan


@dataclass(frozen=True)
class TrainJob:
    """Options of the verb ``train``.

    Attributes:
        labeled: Files and folders with images and masks. One folder alone may hold everything.
        unlabeled: Files and folders with images.
        held_out: Files and folders with images and masks for the final score.
        masks: Mask file by image file, in place of the one that was found by name.
        resample_masks: Image files whose masks may be resampled where they lie on another grid (nearest neighbor);
            left out or held out, such a case is scored on its image's grid, and its row says so.
        different_unlabeled: "use" or "leave_out" unlabeled volumes that differ strongly from the labeled ones.
        num_labeled: Only the first so many labeled cases keep their masks; the rest is used without.
        num_validation: Labeled patients set aside to watch the training.
        labels: ``{"value", "name"}`` of each structure. Empty takes those of the recognized layout, else the left atrium.
        other_values: "refuse" masks with values that ``labels`` does not name, or take them as "background".
        method: A name of ``METHODS``.
        preset: "plus" (our defaults), "faithful" (the authors' code) or another of the method's presets.
        goal: "quick", "normal" or "best"; fills in what the fields below leave open.
        minutes: Length of the training on a CPU, where the goal's is not wanted; 0 keeps the goal's.
        tsa: Put transferable semantic augmentation with its usual weight on top of the method, where the method can take it.
        network: A name of ``CHOOSABLE`` networks, or ``monai:NAME`` where MONAI is installed; empty takes what suits the recognized layout, else "vnet".
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: Of everything random.
        baseline: Also train on the labels alone with the same budget, to measure the gain.
        assumed_spacing_mm: (slice, row, column) for files that state none.
        preprocessing: Fields of ``Preprocessing``; what is left open comes from the recognized layout.
        network_options: Options of the network.
        method_options: Fields of the method's ``Options``.
        training: Fields of ``TrainOptions``.
        augment: Fields of ``AugmentOptions``.
        prepared: A prepared folder to use instead of preparing ``labeled`` and the others.
        threads: CPU threads; 0 takes all.
        best_on_test: How often the held-out cases are scored while training, the last checkpoint included: the best of these scores is what many papers
            print. It chooses nothing and costs a segmentation of these cases each time; 0 scores them at the end alone.
        first_stages: A folder where trainings with the same first stage (all but what self-training alone depends on) keep its end, so that it is trained
            once. For trainings on one computer; not with ``num_validation`` or ``best_on_test``, which look into that stage. Empty: every run trains all.
        leave_out: Name of a labeled case whose patient is held out: for an estimate where each patient is left out once.
    """

    labeled: list[str] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    masks: dict[str, str] = field(default_factory=dict)
    resample_masks: list[str] = field(default_factory=list)
    different_unlabeled: str = "use"
    num_labeled: int | None = None
    num_validation: int = 0
    labels: list[dict[str, Any]] = field(default_factory=list)
    other_values: str = "refuse"
    method: str = "transmedseg"
    preset: str = "plus"
    goal: str = "normal"
    minutes: float = 0.0
    tsa: bool = False
    network: str = ""
    device: str = "auto"
    seed: int = 0
    baseline: bool = False
    assumed_spacing_mm: list[float] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    network_options: dict[str, Any] = field(default_factory=dict)
    method_options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    prepared: str = ""
    threads: int = 0
    leave_out: str = ""
    best_on_test: int = 0
    first_stages: str = ""

    def __post_init__(self) -> None:
        choices = {"method": METHODS, "goal": GOALS}
        if self.network and not self.network.startswith(MONAI):
            choices["network"] = CHOOSABLE
        if self.method in METHODS:
            choices["preset"] = load_method(self.method).presets
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"The job's {name} must be one of {', '.join(allowed)}; found {getattr(self, name)!r}.", hint=f"Change {name} in job.json."
                )
        if self.best_on_test < 0:
            raise InputError(f"The job's best_on_test must be 0 or more; found {self.best_on_test}.", hint="0 looks at the held-out cases at the end alone.")


@dataclass(frozen=True)
class Resolved:
    """A job with every number filled in, and the objects made from it."""

    job: TrainJob
    options: TrainOptions
    augment: AugmentOptions
    preprocessing: Preprocessing
    method_options: Any
    network_options: dict[str, Any]


def resolve(job: TrainJob, device: torch.device) -> Resolved:
    """Fills in every default: what the job says, else the method's preset, else the plan for its goal, else the default."""
    is_resolved = _is_resolved(job)
    found = None if is_resolved or not job.labeled else _found(job)
    states_spacing = "spacing_mm" in job.preprocessing
    job = _with_layout(job, found)
    method = load_method(job.method)
    preset = method.presets[job.preset]
    plan = None if is_resolved else _plan(job, found, device)
    network_options = _network_options(job, preset.network, plan)
    training = {**(plan.training if plan else {}), **preset.training}
    if job.minutes > 0 and "minutes" in training:
        training["minutes"] = job.minutes
    if "iterations" in job.training:
        training.pop("minutes", None)  # a stated number of steps beats a planned length
    training.update(job.training)
    network_options, training = _of_one_size(job, network_options, training)
    preprocessing = dict(job.preprocessing)
    if plan is not None and plan.spacing_mm is not None and not states_spacing:
        preprocessing["spacing_mm"] = plan.spacing_mm  # never finer than the layout's: that grid is what was planned from
    try:
        options = options_from(TrainOptions, training, "the training")
        augment = options_from(AugmentOptions, {**preset.augment, **job.augment}, "the augmentation")
        method_options = options_from(method.Options, {**preset.method, **_with_tsa(job, method), **job.method_options}, f"the method {job.method}")
        prepared_as = Preprocessing.from_json({**Preprocessing().to_json(), **preprocessing})
    except (TypeError, ValueError) as error:
        raise InputError(f"An option of the job does not fit: {error}.", hint="`semiseg describe` lists them all.") from error
    full = replace(
        job,
        preprocessing=prepared_as.to_json(),
        network_options=network_options,
        method_options=as_json(method_options),
        training=as_json(options),
        augment=as_json(augment),
    )
    return Resolved(full, options, augment, prepared_as, method_options, network_options)


def _is_resolved(job: TrainJob) -> bool:
    """A resolved job needs neither a plan nor a look at the files. A stated patch alone is no such job: all else is still to be planned."""
    complete = {entry.name for entry in fields(Preprocessing)} <= set(job.preprocessing)
    return complete and bool(job.labels and job.network) and {entry.name for entry in fields(TrainOptions)} <= set(job.training)


def _plan(job: TrainJob, found: CaseList | None, device: torch.device) -> Plan:
    shape, spacing = _typical_grid(job, found)
    return make_plan(job.goal, device, shape, spacing, network_entry(job.network).spatial_dims, _downscale(job), job.minutes)


def _downscale(job: TrainJob) -> int | None:
    """By what the sides of the patch must divide, where the job decides it; nonsense is refused in words with the other options of the network."""
    options = network_entry(job.network).filled(job.network_options)
    stated = options.get("downscale", MonaiOptions().downscale) if job.network.startswith(MONAI) else options.get("depth")
    if not isinstance(stated, int) or not 1 <= stated <= 256:
        return None
    return stated if job.network.startswith(MONAI) else 2 ** (stated - 1)


def _network_options(job: TrainJob, preset: Mapping[str, Any], plan: Plan | None) -> dict[str, Any]:
    """What the job says, else the preset, else the plan; refused before the data are prepared."""
    entry = network_entry(job.network)
    kind = entry.options
    known = {one.name for one in fields(kind)}
    values = {key: value for key, value in {**(plan.network_options if plan else {}), **preset}.items() if key in known}
    values.update(job.network_options)
    if plan is not None:  # a resolved job says it all; what it was begun with must not change
        values = entry.filled(values)
    options_from(kind, values, f"the network {job.network}")
    return values


def _of_one_size(job: TrainJob, network_options: dict[str, Any], training: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A network that is built for images of one size gets that of the patch; where the job states the network's alone, the patch gets that."""
    arguments = network_options.get("arguments", {})
    if not job.network.startswith(MONAI) or not isinstance(arguments, Mapping):
        return network_options, training
    sides = sides_of(arguments.get("img_size"))
    if sides is not None and "patch_size" not in job.training:
        training = {**training, "patch_size": list(sides)}
    entry = MONAI_NETWORKS.get(job.network.removeprefix(MONAI))
    if entry is not None and entry.has_one_size and "img_size" not in arguments:
        patch = training.get("patch_size", list(TrainOptions().patch_size))
        network_options = {**network_options, "arguments": {**arguments, "img_size": list(patch)}}
    return network_options, training


def _found(job: TrainJob) -> CaseList:
    return find_cases([Path(p) for p in job.labeled], [Path(p) for p in job.unlabeled], [Path(p) for p in job.held_out], job.num_labeled)


def _with_layout(job: TrainJob, found: CaseList | None) -> TrainJob:
    """What the job leaves open about the data, from the layout that was recognized; else the defaults."""
    layout = found.layout if found is not None and found.layout is not None else Layout("", "")
    labels = job.labels or list(layout.labels) or _prepared_labels(job) or list(structures("left atrium"))
    spacing = job.assumed_spacing_mm if job.assumed_spacing_mm is not None else layout.assumed_spacing_mm
    preprocessing = {**layout.preprocessing, **job.preprocessing}
    if layout.window_from_labels and "intensity" not in job.preprocessing:
        preprocessing.update(intensity="window", window=list(window_under_masks(found.labeled)))
    return replace(
        job,
        labels=labels,
        network=job.network or layout.network or DEFAULT_NETWORK,
        assumed_spacing_mm=None if spacing is None else list(spacing),
        preprocessing=preprocessing,
    )


def _prepared_labels(job: TrainJob) -> list[dict[str, Any]]:
    return list(PreparedSet.load(Path(job.prepared)).labels) if job.prepared else []


def _with_tsa(job: TrainJob, method: type[AbstractMethod]) -> dict[str, float]:
    """The weight that switches TSA on, where the job asks for it."""
    if not job.tsa:
        return {}
    if "tsa_weight" not in {entry.name for entry in fields(method.Options)}:
        able = [name for name in METHODS if "tsa_weight" in {entry.name for entry in fields(load_method(name).Options)}]
        raise InputError(f"TSA cannot be put on top of the method {job.method}.", hint=f"Choose one of {', '.join(able)}, or leave out the option tsa.")
    return {"tsa_weight": DEFAULT_WEIGHT}


def _typical_grid(job: TrainJob, found: CaseList | None) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Median shape and spacing of up to four labeled cases, on the grid the job or its layout wants."""
    grids: list[tuple[tuple[int, int, int], tuple[float, float, float]]] = []
    if job.prepared:
        prepared = PreparedSet.load(Path(job.prepared))
        grids += [(prepared.shape(i), prepared.cases[i].spacing_mm) for i in prepared.indices("labeled")[:4]]
    elif found is not None:
        wanted = Preprocessing.from_json({**Preprocessing().to_json(), **job.preprocessing})
        assumed = None if job.assumed_spacing_mm is None else tuple(job.assumed_spacing_mm)
        for case in found.labeled[:4]:
            try:
                geometry = wanted.plan(read_volume(case.image, case.id, assumed).geometry).prepared
            except InputError:
                continue  # prepare reports it with its reason
            grids.append((geometry.shape, geometry.spacing_mm))
    if not grids:
        return (64, 128, 128), (1.0, 1.0, 1.0)
    shape = tuple(int(statistics.median(grid[0][axis] for grid in grids)) for axis in range(3))
    spacing = tuple(float(statistics.median(grid[1][axis] for grid in grids)) for axis in range(3))
    return shape, spacing


def as_json(options: Any) -> dict[str, Any]:
    """The fields of an options dataclass as JSON values."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(options).items()}
