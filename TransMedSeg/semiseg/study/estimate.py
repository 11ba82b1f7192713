"""How long a run will take: from the probe, from runs of the same row that are done, or from the budget."""

from __future__ import annotations

from typing import Any

from .definition import Study
from .finished import is_of_one_piece, result_of
from .grid import Run
from .tasks import Place, measured


class Estimate:
    """Seconds of runs; learns from those that end.

    Args:
        study: What is run.
        place: Where.
        runs: Of the study.
    """

    def __init__(self, study: Study, place: Place, runs: list[Run]) -> None:
        self._study, self._place = study, place
        self._runs = {run.id: run for run in runs}
        self._steps: dict[str, list[float]] = {}
        self._beside: list[float] = []
        for run in runs:
            self._learn(run)

    def learn(self, run_id: str, wall_s: float) -> None:
        """A run has ended after so many seconds."""
        run = self._runs.get(run_id)
        result = None if run is None else self._learn(run)
        if result is not None:
            self._beside.append(max(0.0, wall_s - float(result.get("train_s", 0.0))))

    def seconds(self, run_id: str) -> float | None:
        """Of a run from its start to its end, as far as anything is known; None when nothing is."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        beside = sum(self._beside) / len(self._beside) if self._beside else 0.0
        iterations = self._iterations(run)
        known = self._steps.get(run.measure)
        if known and iterations:
            return iterations * sum(known) / len(known) + beside
        found = measured(self._place, run)
        if found.get("step_s") and iterations:
            return iterations * float(found["step_s"]) + float(found.get("labeling_s", 0.0)) + beside
        return self._study.budget.seconds + beside if self._study.budget.seconds else None

    def _iterations(self, run: Run) -> int:
        return self._study.budget.iterations or int(measured(self._place, run).get("iterations", 0))

    def _learn(self, run: Run) -> dict[str, Any] | None:
        """The result of a run that tells how long others will take, which one that was continued or took a stage from another does not."""
        folder = self._place.run_dir(run)
        result = result_of(folder)
        if result is None or not is_of_one_piece(folder, result):
            return None
        if result["iterations"]:
            self._steps.setdefault(run.measure, []).append(float(result["train_s"]) / result["iterations"])
        return result
