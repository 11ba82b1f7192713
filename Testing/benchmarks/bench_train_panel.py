"""How long the training panel takes to open, and how long it holds up the event loop while a run reports 50 events per second.

    QT_QPA_PLATFORM=offscreen python Testing/benchmarks/bench_train_panel.py [SECONDS]

Runs in the test bed, not in Slicer. Prints CPU time beside wall time: on a busy computer only the first is the panel's.
"""

import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing" / "slicer"), str(REPOSITORY / "TransMedSeg")]


def main(seconds):
    from bed import boot

    boot.start()
    import qt

    from semiseg import protocol

    folder = Path(tempfile.mkdtemp())
    qt.QSettings().setValue("TransMedSeg/RunsFolder", str(folder / "runs"))
    wall, cpu = time.perf_counter(), time.process_time()
    module, widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
    module.widgetRepresentation().enter()
    print(f"open: {time.perf_counter() - wall:.3f} s wall, {time.process_time() - cpu:.3f} s CPU")
    panel = widget.panel
    widget.parent.show()
    run_dir = folder / "runs" / "bench"
    protocol.write_job(run_dir, protocol.Job("train", {"device": "cpu"}))
    report = protocol.EventWriter(run_dir / protocol.EVENTS_FILE)
    with protocol.HeldLock(run_dir, "cpu", str(REPOSITORY), "0"):
        panel.follow.open(run_dir)
        gaps, work, polls = watch(panel, report, seconds)
        panel.follow.process.letGo()
    report.close()
    print(f"{len(polls)} turns, longest {1000 * max(polls):.1f} ms CPU, mean {1000 * sum(polls) / len(polls):.1f} ms CPU")
    print(f"longest turn of the event loop {1000 * max(work):.1f} ms CPU")
    print(f"longest gap of the event loop {1000 * max(gaps):.1f} ms wall, 99 % below {1000 * sorted(gaps)[int(0.99 * len(gaps))]:.1f} ms")
    module.widgetRepresentation().exit()
    boot.quit_application()


def watch(panel, report, seconds):
    """Writes events at 50 per second from a timer; returns wall and CPU time between turns of the loop, and the CPU time of each poll."""
    import qt
    from bed import boot

    polls, gaps, work, poll = [], [], [], panel.follow.process.poll

    def timed():
        start = time.process_time()
        poll()
        polls.append(time.process_time() - start)

    panel.follow.process._timer.disconnect("timeout()", panel.follow.process.poll)
    panel.follow.process._timer.connect("timeout()", timed)
    state = {"step": 0, "last": time.perf_counter(), "cpu": time.process_time()}
    names = ("loss", "loss_consistency", "learning_rate", "pseudo_label_entropy", "validation_dice")

    def write():
        state["step"] += 1
        report("scalar", name=names[state["step"] % len(names)], value=1 / state["step"], step=state["step"] // len(names))
        if state["step"] % 10 == 0:
            report("progress", what="train", done=state["step"], total=10**6, rate_per_s=10.0, eta_s=60.0)

    def tick():
        now, cpu = time.perf_counter(), time.process_time()
        gaps.append(now - state["last"])
        work.append(cpu - state["cpu"])
        state.update(last=now, cpu=cpu)

    timers = [qt.QTimer(), qt.QTimer()]
    for timer, interval, call in zip(timers, (20, 1), (write, tick)):
        timer.interval = interval
        timer.connect("timeout()", call)
        timer.start()
    boot.process_events(seconds)
    for timer in timers:
        timer.stop()
    return gaps, work, polls


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
