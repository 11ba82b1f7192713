"""What a training is made of: prepared cases, a method, and its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from .data.batches import CaseStore, TwoStreamBatches
from .data.cache import PreparedSet
from .distributed import World, wait_for_all
from .errors import InputError
from .methods import load_method
from .methods.base import AbstractMethod, Task
from .prepare import PrepareOptions, prepare
from .train_job import Resolved

Report = Callable[..., None]


def prepared_for(resolved: Resolved, run_dir: Path, report: Report, world: World) -> PreparedSet:
    """The cases of a job: those that were prepared before, or the job's files prepared now; and one patient left out where the job says so."""
    job = resolved.job
    if job.prepared:
        return _without(PreparedSet.load(Path(job.prepared)), job.leave_out)
    folder = run_dir / "prepared"
    if world.is_main:
        options = PrepareOptions(
            labeled=tuple(map(Path, job.labeled)),
            unlabeled=tuple(map(Path, job.unlabeled)),
            held_out=tuple(map(Path, job.held_out)),
            num_labeled=job.num_labeled,
            num_validation=job.num_validation,
            labels=tuple(job.labels),
            other_values=job.other_values,
            preprocessing=resolved.preprocessing,
            assumed_spacing_mm=None if job.assumed_spacing_mm is None else tuple(job.assumed_spacing_mm),
            different_unlabeled=job.different_unlabeled,
            masks=job.masks,
            resample_masks=tuple(job.resample_masks),
            seed=job.seed,
        )
        prepare(options, folder, report)
    wait_for_all()
    return _without(PreparedSet.load(folder), job.leave_out)


def _without(prepared: PreparedSet, left_out: str) -> PreparedSet:
    """Holds out the patient of one labeled case: nothing is learned from it, and it is scored."""
    if not left_out:
        return prepared
    patient = next((case.patient for case in prepared.cases if case.id == left_out and case.is_used and case.role == "labeled"), None)
    if patient is None:
        names = ", ".join(prepared.cases[index].id for index in prepared.indices("labeled"))
        raise InputError(f"There is no labeled case {left_out!r} to leave out.", hint=f"The labeled cases are {names}.")
    is_out = [case.patient == patient and case.role == "labeled" for case in prepared.cases]
    cases = tuple(replace(case, role="held_out") if out else case for case, out in zip(prepared.cases, is_out))
    rest = replace(prepared, cases=cases)
    if len(rest.indices("labeled")) < 2:
        raise InputError(
            f"Without {left_out!r} fewer than 2 labeled volumes are left.", code="E801", hint="Leaving one out needs at least 3 labeled patients."
        )
    return rest


def task_of(resolved: Resolved, prepared: PreparedSet) -> Task:
    """What is to be segmented, and with which network."""
    return Task(
        prepared.num_classes, resolved.job.network, resolved.network_options, two_dimensional=resolved.options.patch_size[0] == 1
    )


def make_method(resolved: Resolved, prepared: PreparedSet) -> AbstractMethod:
    """A fresh method; its weights follow from the job's seed.

    Raises:
        InputError: The patch does not fit the network.
    """
    torch.manual_seed(resolved.job.seed)
    method = load_method(resolved.job.method)(task_of(resolved, prepared), resolved.method_options)
    _check_patch(resolved, method)
    return method


def _check_patch(resolved: Resolved, method: AbstractMethod) -> None:
    patch, network = resolved.options.patch_size, method.deployed
    sides = patch[1:] if patch[0] == 1 else patch
    if len(sides) != network.spatial_dims:
        raise InputError(
            f"The network {resolved.job.network} works on {network.spatial_dims} axes; the patch {patch} has {len(sides)}.",
            hint="A patch of slices has 1 as its first side.",
        )
    only = getattr(network, "fixed_image_size", None)
    if only is not None and tuple(sides) != only:
        raise InputError(
            f"The network {resolved.job.network} is built for images of {only} voxels; the patch has {tuple(sides)}.",
            hint="Leave out img_size among its arguments, which then follows from training.patch_size, or state the same in both.",
        )
    if any(side % network.downscale for side in sides):
        raise InputError(
            f"The sides of the patch {patch} must divide by {network.downscale}, because the network halves them so often.",
            hint="Change training.patch_size, or the depth of the network.",
        )


def make_batches(resolved: Resolved, prepared: PreparedSet, device: torch.device, world: World) -> TwoStreamBatches:
    """The batches of any iteration, for this process among all."""
    options = resolved.options
    needs = load_method(resolved.job.method).needs_unlabeled
    labeled = prepared.indices("labeled")
    # Labeled images without their masks are unlabeled images too; they join when there are no others to learn from.
    unlabeled = prepared.indices("unlabeled") if needs else []
    store = CaseStore(prepared, labeled + unlabeled, device, int(options.memory_gb * 1e9))
    return TwoStreamBatches(
        store,
        labeled,
        unlabeled,
        options.patch_size,
        options.batch_labeled,
        options.batch_unlabeled,
        resolved.augment,
        resolved.job.seed,
        world.rank,
        world.size,
    )
