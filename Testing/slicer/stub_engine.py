#!/usr/bin/env python3
"""Plays the engine in tests: called as `stub_engine.py StartEngine.py ENGINE_FOLDER RUN_DIR ...`, in place of a Python.

What it does is said by `stub.json` beside this file's copy: {"act": name, ...}; see ACTS. It reads and writes volumes
with the engine's own code, so that the geometry takes the real way.
"""

import json
import os
import sys
import time
from pathlib import Path


def main():
    engine_folder, run_dir = sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, engine_folder)
    plan = json.loads(Path(__file__).with_name("stub.json").read_text())
    from semiseg import protocol

    job = protocol.read_job(run_dir)
    report = protocol.EventWriter(run_dir / protocol.EVENTS_FILE)
    engine = str(Path(engine_folder) / "semiseg")
    report("started", version="0", engine=engine, pid=os.getpid(), host="here", device="cpu", verb=job.verb)
    act = plan.get("act", "")
    if act == "crash":
        raise RuntimeError("the stub crashes")
    if act == "killed":
        os.kill(os.getpid(), 9)
    if act == "refuse":
        report("failed", code=plan["code"], message=plan["message"], hint="")
        return 2
    if act == "wait":
        time.sleep(plan.get("seconds", 60))
    return VERBS[job.verb](job, run_dir, report, plan)


def predict(job, run_dir, report, plan):
    out = Path(job.options["out_dir"])
    out.mkdir(parents=True, exist_ok=True)
    inputs = [Path(path) for path in job.options["inputs"]]
    for done, path in enumerate(inputs):
        report("progress", what="segmenting", done=done, total=len(inputs), rate_per_s=1, eta_s=1, case=path.stem)
        time.sleep(plan.get("delay", 0))
        failure = plan.get("failures", {}).get(path.stem)
        if failure:
            report("case", id=path.stem, status="failed", reason=failure["reason"], code=failure["code"], files=[])
            continue
        if plan.get("act") != "nothing":
            write_case(path, out, plan)
        report("case", id=path.stem, status="done", reason="", code="", files=[])
    if plan.get("act") == "silent end":
        return 0
    report("finished", result={"out_dir": str(out)})
    return 0


def write_case(path, out, plan):
    import numpy as np

    from semiseg.data.files import read_volume, write_labels, write_volume
    from semiseg.data.segmentation import Segment
    from semiseg.data.volume import Volume

    volume = read_volume(path, path.stem)
    mask = (volume.array > plan.get("threshold", 100)).astype(np.uint8)
    if plan.get("act") == "empty":
        mask[:] = 0
    entry = "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^82471001^Left atrium~^^~Anatomic codes - DICOM master list~^^~^^"
    segments = [Segment(1, "left atrium", (203 / 255, 108 / 255, 81 / 255), entry, "AUTOMATIC", "TransMedSeg stub", "1.0")]
    write_labels(out / f"{path.stem}.seg.nrrd", Volume(mask, volume.geometry), segments)
    doubt = np.zeros(mask.shape, np.float32)
    for k in plan.get("doubtful", []):
        doubt[k] = 0.5
    write_volume(out / f"{path.stem}.uncertainty.nii.gz", Volume(doubt, volume.geometry))


def score(job, run_dir, report, plan):
    """The real scores: this part of the engine needs no torch."""
    from semiseg.evaluate import evaluate, pair_folders

    pairs, _loose = pair_folders(Path(job.options["predictions"]), Path(job.options["references"]))
    found = evaluate(pairs, job.options["labels"], run_dir, report)
    report("finished", result={"scored": len(pairs) - len(found.refused)})
    return 0


def export(job, run_dir, report, plan):
    output = Path(job.options["output"])
    (run_dir.parent / "last_export.json").write_text(json.dumps(job.options))
    path = output / "SEG_1.2.3.dcm" if output.is_dir() else output
    path.write_bytes(b"not really DICOM")
    result = {"path": str(path), "message": "Written and verified: 5 frames, 1.2 mL", "sop_instance_uid": "1.2.3"}
    report("finished", result=result)
    return 0


VERBS = {"predict": predict, "evaluate": score, "export-seg": export}

if __name__ == "__main__":
    raise SystemExit(main())
