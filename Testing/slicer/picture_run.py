"""The training that the pictures show: a cohort of phantoms and a real run of the real engine, small enough for one CPU core.

    SEMISEG_ENGINE_PYTHON=.venv/bin/python python Testing/slicer/picture_run.py FOLDER

FOLDER gets `phantoms`, `runs/left-atrium` and, in `halfway`, the run folder as it was in the middle of the training. What is
there is kept, so a stopped call continues. About ten minutes on a free core; no number of it is a benchmark.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
RUN = "left-atrium"
COHORT = {"labeled": 5, "unlabeled": 12, "held-out": 4}
SEED = 3
ITERATIONS = 700
TRAINING = {"iterations": ITERATIONS, "patch_size": [32, 40, 40], "log_every": 7, "validate_every": 35, "save_every_s": 60, "warmup_iterations": 10}
GRID = {"spacing_mm": [2.5, 2.5, 2.5]}  # coarse, so that a slow computer is done in minutes
NETWORK = {"width": 8, "depth": 4, "coarse_stem": False}


def make(folder, python):
    """Makes whatever of the folder is missing.

    Args:
        folder: Working folder, outside of the repository.
        python: A Python with the engine's packages.
    """
    folder = Path(folder).resolve()
    if not (folder / "phantoms" / "cohort.json").exists():
        counts = [f"--{part}={number}" for part, number in COHORT.items()]
        subprocess.run([*_engine(python), "phantom", str(folder / "phantoms"), f"--seed={SEED}", *counts], env=_environment(), check=True)
    run_dir = folder / "runs" / RUN
    if _is_done(run_dir):
        return
    if not (run_dir / "job.json").exists():
        _write_job(folder, run_dir)
    engine = subprocess.Popen([*_engine(python), "run", "--quiet", str(run_dir)], env=_environment())
    while engine.poll() is None:
        time.sleep(0.2)
        if not (folder / "halfway").exists() and _step(run_dir) >= ITERATIONS * 0.55:
            _keep_halfway(run_dir, folder / "halfway")
    assert engine.returncode == 0, f"the engine ended with {engine.returncode}; see {run_dir / 'log.txt'}"


def _engine(python):
    return [str(python), "-m", "semiseg"]


def _environment():
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "TransMedSeg")}


def _write_job(folder, run_dir):
    """A job as the training panel writes it, but for the length of the training."""
    from semiseg.protocol import Job, write_job

    options = {
        "labeled": [str(folder / "phantoms")],  # one folder with labeled, unlabeled and heldout in it
        "num_validation": 1,
        "goal": "quick",
        "device": "cpu",
        "threads": 1,
        "baseline": True,
        "training": TRAINING,
        "preprocessing": GRID,
        "network_options": NETWORK,
    }
    write_job(run_dir, Job("train", options))


def _is_done(run_dir):
    """Whether the training on the labels alone, which comes last, is done too."""
    path = run_dir / "result.json"
    return path.exists() and "baseline" in json.loads(path.read_text(encoding="utf-8"))


def _step(run_dir):
    """The last iteration of the training that was reported."""
    path = run_dir / "events.jsonl"
    if not path.exists():
        return 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if '"progress"' in line and line.endswith("}")]
    steps = [line["done"] for line in lines if line.get("what") == "train"]
    return steps[-1] if steps else 0


def _keep_halfway(run_dir, target):
    """A copy of the run folder without the states that only a resume needs."""
    partial = target.with_name(target.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run_dir, partial / run_dir.name, ignore=shutil.ignore_patterns("resume.pt*", "*.tmp", "*.part"))
    partial.rename(target)


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY / "TransMedSeg"))
    make(sys.argv[1], os.environ.get("SEMISEG_ENGINE_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
