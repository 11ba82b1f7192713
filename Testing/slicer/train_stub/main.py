"""The stub's side of the protocol. Runs as `semiseg.__main__`: standard library only."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from semiseg import __version__, protocol

FOLDER = Path(__file__).parent.parent
RUN_DIR = Path(sys.argv[-1])


def main():
    behavior = json.loads((FOLDER / "behavior.json").read_text(encoding="utf-8"))
    if sys.argv[1] == "describe":
        print(json.dumps(behavior.get("describe", {"methods": []})))
        return 0
    job = protocol.read_job(RUN_DIR)
    last_heard = protocol.last_event_time(RUN_DIR)
    report = protocol.EventWriter(RUN_DIR / protocol.EVENTS_FILE)
    with protocol.HeldLock(RUN_DIR, job.options.get("device", "cpu"), str(Path(__file__).parent), __version__):
        protocol.forget_earlier_stop(RUN_DIR, last_heard)
        report("started", version=behavior.get("version", __version__), engine=behavior.get("engine", str(Path(__file__).parent)), pid=os.getpid(), host=socket.gethostname(), device=job.options.get("device"), verb=job.verb)
        what = behavior.get("check", "finish") if job.verb == "prepare" else behavior["what"]
        code = globals()[what](behavior, job, report)
    report.close()
    return code


def finish(behavior, job, report):
    for event in behavior.get("events", []):
        report(**event)
    cases(behavior, job, report)
    if job.verb == "measure":
        report("finished", result=behavior["measured"])
        return 0
    if job.verb == "train":
        steps(behavior, report, behavior.get("iterations", 100))
        (RUN_DIR / protocol.MODEL_FILE).write_bytes(b"model")
        (RUN_DIR / "dice.csv").write_text("case,label,dice,hd95_mm,asd_mm,volume_ml,reference_ml,note\nP9,left atrium,0.912345678,3.5,0.9,100.5,101.25,scored on the image's grid\n")
    result = behavior.get("result", {"wall_s": 75, "scores": {"left atrium": {"dice": {"mean": 0.912, "count": 1}}}})
    if job.options.get("leave_out"):
        result = behavior["folds"][job.options["leave_out"]]
        (RUN_DIR / protocol.RESULT_FILE).write_text(json.dumps(result))
    report("finished", result=result)
    return 0


def cases(behavior, job, report):
    """The table of cases; a check without any finds three that can be used."""
    rows = behavior.get("cases", [])
    if not rows and job.verb == "prepare" and behavior.get("check", "finish") == "finish":
        use = (("P1", "labeled"), ("P2", "labeled"), ("U1", "unlabeled"))
        rows = [f"{name},{role},,,{name},10 x 10 x 10,1 x 1 x 1,,{job.options['labeled'][0]}/{name}.nrrd," for name, role in use]
    if not rows:
        return
    folder = RUN_DIR / "prepared"
    folder.mkdir(exist_ok=True)
    header = "case,use,code,reason,patient,size,spacing_mm,left atrium (ml),image,mask,mask_values,same_as"
    (folder / "cases.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    for row in rows:
        name, use, code, reason = row.split(",")[:4]
        report("case", id=name, status="refused" if use.startswith("refused") else "used", reason=reason, code=code)


def steps(behavior, report, iterations, stop=lambda: False):
    """Some curves; returns the iteration it came to."""
    start = 0
    if (RUN_DIR / protocol.RESUME_FILE).exists():
        start = int((RUN_DIR / protocol.RESUME_FILE).read_text())
    report("stage", name="train", iteration=start, total=iterations)
    for step in range(start + 10, iterations + 1, 10):
        report("scalar", name="loss", value=1.0 / step, step=step)
        report("scalar", name="loss_consistency", value=0.5 / step, step=step)
        report("scalar", name="learning_rate", value=0.01, step=step)
        if step % 50 == 0:
            report("scalar", name="validation_dice", value=1 - 10.0 / (step + 10), step=step)
            report("scalar", name="validation_dice_student", value=1 - 12.0 / (step + 12), step=step)
        if step == behavior.get("label_at"):
            label_cases(report, step)
        report("progress", what="train", done=step, total=iterations, rate_per_s=20.0, eta_s=(iterations - step) / 20)
        time.sleep(behavior.get("pause_s", 0.0))
        if stop():
            return step
    return iterations


def label_cases(report, step):
    """One round of labels for whole unlabeled cases, as `training/case_labels.py` tells of it."""
    for done in (1, 2):
        report("progress", what="labeling cases", done=done, total=2, rate_per_s=0.5, eta_s=2.0 * (2 - done))
    report("scalar", name="pseudo_label_share", value=0.02, step=step)
    report("scalar", name="pseudo_label_entropy", value=0.1, step=step)


def forever(behavior, job, report):
    """Trains until it is stopped, then saves, as the real engine does."""
    stopped = (RUN_DIR / protocol.STOP_FILE).exists
    if behavior.get("child"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        report("state", message="child")
    step = steps({"pause_s": 0.02}, report, 1_000_000, stopped)
    (RUN_DIR / protocol.RESUME_FILE).write_text(str(step))
    report("saved", path=str(RUN_DIR / protocol.RESUME_FILE), what="state", step=step)
    (RUN_DIR / protocol.MODEL_FILE).write_bytes(b"model so far")
    report("saved", path=str(RUN_DIR / protocol.MODEL_FILE), what="model", step=50, dice=0.8333)
    report("stopped", step=step)
    return 3


def deaf(behavior, job, report):
    """Never looks for the stop file."""
    if behavior.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        report("state", message=str(child.pid))
    while True:
        time.sleep(0.1)


def fail(behavior, job, report):
    for event in behavior.get("events", []):
        report(**event)
    cases(behavior, job, report)
    if "fixes" in behavior:
        report("failed", code=behavior["code"], message=behavior["message"], hint=behavior.get("hint", ""), fixes=behavior["fixes"])
    else:
        report("failed", code=behavior["code"], message=behavior["message"], hint=behavior.get("hint", ""))
    return 2


def pause_itself(behavior, job, report):
    report("saved", path="resume.pt", what="state", step=2100)
    (RUN_DIR / protocol.RESUME_FILE).write_text("2100")
    report("paused", code=behavior.get("code", "E807"), message="", hint="")
    return 3


def crash(behavior, job, report):
    """Ends without a last event, with some text in the log; after it saved its state where the test says so."""
    if "saved_at" in behavior:
        report("saved", path=str(RUN_DIR / protocol.RESUME_FILE), what="state", step=behavior["saved_at"])
        (RUN_DIR / protocol.RESUME_FILE).write_text(str(behavior["saved_at"]))
    print(behavior.get("log", ""), file=sys.stderr, flush=True)
    os._exit(behavior.get("exit_code", 1))


def killed(behavior, job, report):
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
