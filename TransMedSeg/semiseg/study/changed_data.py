"""Whether a study and its data are still what its folders were made for: options, files that changed, cases that came or went."""

from __future__ import annotations

from pathlib import Path

from ..data.cache import PreparedSet
from ..data.case_list import CaseList
from ..data.cases import find_cases, with_masks
from . import record
from .definition import Study
from .grid import runs_of
from .schedule import Task
from .tasks import Place, cohort_tasks, preparation_tasks, run_tasks, timing_tasks

_FEW = 3


def changed_tasks(study: Study, place: Place) -> list[tuple[Task, list[str]]]:
    """Everything that was made for something else than is asked now, and what differs."""
    tasks = [task for make in (cohort_tasks, preparation_tasks, timing_tasks, run_tasks) for task in make(study, place)]
    changed = [(task, record.changes(record.read_asked(task.folder), task.asked)) for task in tasks if task.status == record.CHANGED]
    seen = {task.id for task, _ in changed}
    return changed + [(task, what) for task, what in changed_data(study, place) if task.id not in seen]


def begun_in_vain(study: Study, place: Place) -> list[Task]:
    """Tasks whose folders were begun for something else, before anything was made in them."""
    tasks = [task for make in (cohort_tasks, preparation_tasks, timing_tasks, run_tasks) for task in make(study, place)]
    return [task for task in tasks if task.status == record.NEW and record.read_asked(task.folder) is not None]


def in_words(changed: list[tuple[Task, list[str]]]) -> str:
    """What has changed, the first few of it."""
    some = "; ".join(f"{task.title}: {', '.join(what[:_FEW])}" for task, what in changed[:_FEW])
    more = f"; and {len(changed) - _FEW} more" if len(changed) > _FEW else ""
    return f"The study or its data have changed since {len(changed)} of its folders were made. {some}{more}."


def changed_data(study: Study, place: Place) -> list[tuple[Task, list[str]]]:
    """Preparations that would find other data today, the trainings that rest on them, and what has changed."""
    found: dict[str, list[str]] = {}
    tasks = []
    for task in preparation_tasks(study, place):
        if task.status == record.DONE and (what := _changes(task)):
            found[task.id] = what
            tasks.append((task, what))
    for run, task in zip(runs_of(study), run_tasks(study, place), strict=True):
        what = found.get(f"prepared/{run.preparation.id}")
        if what and task.status != record.NEW:
            tasks.append((task, what))
    return tasks


def _changes(task: Task) -> list[str]:
    prepared, options = PreparedSet.load(task.folder / "prepared"), task.options()
    changed = [f"the files of {case}" for case in prepared.changed_sources()]
    if task.asked["phantom"]:
        return changed  # made by the study itself, wherever its folder lies by now
    paths = ([Path(path) for path in options.get(role, [])] for role in ("labeled", "unlabeled", "held_out"))
    found = with_masks(find_cases(*paths, options.get("num_labeled")), options.get("masks", {}))
    return changed + changed_cases(prepared, found)


def changed_cases(prepared: PreparedSet, found: CaseList) -> list[str]:
    """What has come, gone or is used otherwise, a few words for each case. Names are compared, nothing is read.

    A case that was refused when it was read is not new, and when it leaves, nothing changes.

    Args:
        prepared: Cases as they were prepared.
        found: A new look at where they came from.
    """
    now = {(role, str(case.image), str(case.label or "")): case.id for role in ("labeled", "unlabeled", "held_out") for case in getattr(found, role)}
    before = {("labeled" if case.role == "validation" else case.role, case.image, case.label or ""): case for case in prepared.cases}
    known = {case.id for case in prepared.cases}
    others = [case_id for key, case_id in now.items() if key not in before]
    gone = [case.id for key, case in before.items() if case.is_used and key not in now and case.id not in others]
    return [f"{case_id} is {'used otherwise' if case_id in known else 'new'}" for case_id in others] + [f"{case_id} is gone" for case_id in gone]
