# ruff: noqa: F811 (fixtures are imported)
"""The engine as a process: its endings, pausing and stopping, finding it again. Every message is compared in full."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import qt
from train_bed import gone, stub, until  # noqa: F401 (fixture); puts the library on the path

from semiseg import protocol
from TransMedSegLib import Computer, EngineProcess, RunState, StartEngine
from TransMedSegLib.RunState import State


class Followed:
    """A process and what it told."""

    def __init__(self, folder):
        self.events, self.endings, self.silence = [], [], []
        self.process = EngineProcess.EngineProcess(folder, self.events.extend, self.endings.append, self.silence.append)

    def run(self, detached=False, verb="train", **options):
        self.process.start(verb, {"device": "cpu", **options}, detached)
        return self

    def ended(self, seconds=120):
        assert until(lambda: self.endings, seconds), "the process did not end"
        assert len(self.endings) == 1 and not self.process.isRunning
        return self.endings[0]

    def heard(self, kind):
        assert until(lambda: any(event["kind"] == kind for event in self.events)), f"no event {kind}"
        return next(event for event in self.events if event["kind"] == kind)


@pytest.fixture
def followed(stub, tmp_path):
    one = Followed(tmp_path / "run")
    yield one
    one.process.kill()
    until(lambda: one.endings or not one.process.isRunning)
    one.process.letGo()


def test_events_arrive_in_order_and_the_end_comes_once(followed, stub):
    stub.behave("finish", iterations=200)
    ending = followed.run().ended()
    assert ending.state == State.Finished and ending.result["wall_s"] == 75
    kinds = [event["kind"] for event in followed.events]
    assert kinds[0] == "started" and kinds[-1] == "finished" and kinds.count("progress") == 20


def test_job_says_the_verb_and_the_options(followed):
    followed.run(seed=7).ended()
    job = protocol.read_job(followed.process.runDir)
    assert job.verb == "train" and job.options == {"device": "cpu", "seed": 7}


def test_program_that_cannot_start(followed):
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, "/no/such/python")
    ending = followed.run().ended(1)
    assert (ending.state, ending.code) == (State.Failed, "E501")
    assert ending.text == "The computing program could not be started: No such file or directory. A virus scanner may block it."


CRASHES = [
    ("ValueError: shape", "E502", "The program stopped with an error: ValueError: shape"),
    ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate", "E206", "The GPU ran out of memory during training. Smaller patches or batches need less; the run can be resumed."),
    ("RuntimeError: CUDA error: no kernel image is available for execution", "E204", "The installed PyTorch is too old for RTX 5090. Install a PyTorch with a newer CUDA."),
    ("CUDA error: unspecified launch failure", "E207", "The graphics driver stopped. Your run is safe at iteration 0. Restart the computer, then resume."),
    ("OSError: [Errno 28] No space left on device", "E807", "Disk full: the run was paused at iteration 0. Free at least 1 GB, then resume."),
    ("numpy.MemoryError: Unable to allocate 9 GiB", "E503", "The system ended the program, most likely because memory ran out (16.0 GB in this computer). Close other programs, then try again."),
]


@pytest.mark.parametrize(("log", "code", "text"), CRASHES, ids=[one[1] for one in CRASHES])
def test_crash_without_a_word_is_explained_by_its_log(followed, stub, monkeypatch, log, code, text):
    monkeypatch.setattr(Computer, "memoryGb", lambda: 16.0)
    Computer.setGpus(Computer.parseGpus("0, RTX 5090, 32607, 30000, 570.1, 12.0"))
    stub.behave("crash", log=f"Traceback (most recent call last):\n{log}")
    ending = followed.run().ended()
    assert (ending.state, ending.code, ending.text) == (State.Failed, code, text)


def test_program_ended_by_the_system(followed, stub, monkeypatch):
    monkeypatch.setattr(Computer, "memoryGb", lambda: 8.0)
    stub.behave("killed")
    ending = followed.run().ended()
    assert ending.code == "E503"
    assert ending.text.startswith("The system ended the program, most likely because memory ran out (8.0 GB")


FAILURES = [
    ("E206", "Training needs 11 GB with these settings, 7.6 GB is free.", "Use batch 2."),
    ("E801", "At least 2 labeled volumes are needed (4 or more recommended); 1 can be used.", ""),
    ("E806", "Training became unstable 4 times.", "Lower the learning rate."),
    ("E809", "The run folder is used by another worker (PC-12, process 4).", ""),
]


@pytest.mark.parametrize(("code", "message", "hint"), FAILURES, ids=[one[0] for one in FAILURES])
def test_failure_that_the_engine_explains_is_shown_in_its_words(followed, stub, code, message, hint):
    stub.behave("fail", code=code, message=message, hint=hint)
    ending = followed.run().ended()
    assert (ending.state, ending.code, ending.text) == (State.Failed, code, f"{message} {hint}".strip())


def test_defect_of_the_engine_names_its_error(followed, stub):
    stub.behave("fail", code="E502", message="KeyError: 'x'")
    assert followed.run().ended().text == "The program stopped with an error: KeyError: 'x'"


def test_defect_that_is_a_known_trouble_gets_its_own_message(followed, stub):
    stub.behave("fail", code="E502", message="RuntimeError: CUDA error: device-side assert triggered")
    assert followed.run().ended().code == "E207"


def test_disk_full_pauses_the_run(followed, stub):
    stub.behave("pause_itself")
    ending = followed.run().ended()
    assert (ending.state, ending.code) == (State.Paused, "E807")
    assert ending.text == "Disk full: the run was paused at iteration 2100. Free at least 1 GB, then resume."


def test_stranger_is_refused(followed, stub):
    stub.behave("forever", engine="/site-packages/semiseg")
    ending = followed.run().ended()
    assert ending.code == "E510"
    expected = stub.folder / "semiseg"
    assert ending.text == f"Another copy of the engine answered (/site-packages/semiseg instead of {expected}). The run was stopped."
    assert until(lambda: gone(followed.process.pid))


def test_silence_is_told_once_and_taken_back(followed, stub, monkeypatch):
    monkeypatch.setattr(EngineProcess, "SILENCE_SECONDS", 0.4)
    stub.behave("deaf")
    followed.run().heard("started")  # which would be heard after a silence as well
    followed.silence.clear()
    assert until(lambda: followed.silence)
    assert followed.silence == ["No progress for 0 s."]
    report = protocol.EventWriter(followed.process.runDir / protocol.EVENTS_FILE)
    report("state", message="alive")
    report.close()
    assert until(lambda: len(followed.silence) > 1)
    assert followed.silence[1] == ""


def test_sleep_of_the_computer_is_told(followed, stub):
    stub.behave("forever")
    followed.run().heard("progress")
    followed.process._polledAt -= 3 * 3600 + 60
    followed.process.poll()
    assert followed.silence == ["The run was interrupted by sleep for 3 h 1 min and continues."]
    assert followed.process.isRunning


def test_pause_saves_and_resume_continues(followed, stub):
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    followed.process.pause()
    ending = followed.ended()
    saved = RunState.lastIteration(followed.process.runDir)
    assert ending.state == State.Paused and saved > 0
    again = Followed(followed.process.runDir)
    again.process.resume(detached=True)
    assert again.heard("stage")["iteration"] == saved
    again.process.stop()
    assert again.ended().state == State.Paused


def test_pause_before_the_engine_has_begun_is_obeyed(followed, stub):
    stub.behave("forever")
    followed.run(detached=True).process.pause()
    assert followed.ended().state == State.Paused


def test_a_stop_during_the_start_and_one_during_a_long_step_have_their_time(followed, stub, monkeypatch):
    monkeypatch.setattr(EngineProcess, "GRACE_SECONDS", 0.01)
    followed.process.runDir.mkdir()
    followed.process.stop()
    asked = followed.process._endBy
    followed.process._hear([{"kind": "started"}])
    assert followed.process._endBy > asked
    followed.process._hear([{"kind": "progress", "what": "train", "rate_per_s": 0.02}])
    followed.process._endBy = 0.0
    followed.process.stop()
    assert followed.process._endBy - time.monotonic() == pytest.approx(50, abs=2), "a step of 50 seconds"


def test_a_run_that_starts_holds_its_folder_before_the_engine_is_imported(followed, stub):
    (stub.folder / "semiseg" / "__main__.py").write_text("import time; time.sleep(600)")
    followed.run(detached=True)
    assert until(lambda: RunState.summarize(followed.process.runDir).state == State.Running)
    lock = protocol.read_lock(followed.process.runDir)
    assert (lock.pid, lock.device) == (followed.process.pid, "cpu") and followed.events == []
    with pytest.raises(BlockingIOError), protocol.HeldLock(followed.process.runDir, "cpu", "", ""):
        pytest.fail("two at once")
    assert protocol.read_lock(followed.process.runDir).pid == followed.process.pid, "who was refused leaves the lock"


def test_stop_ends_the_whole_tree_of_a_deaf_engine(followed, stub, monkeypatch):
    monkeypatch.setattr(EngineProcess, "GRACE_SECONDS", 0.5)
    stub.behave("deaf", child=True)
    followed.run(detached=True)
    child = int(followed.heard("state")["message"])
    pid = followed.process.pid
    assert not gone(child)
    followed.process.stop()
    assert followed.process.isRunning, "it is asked first"
    assert followed.ended().state == State.Interrupted
    assert until(lambda: gone(child) and gone(pid))


def test_detached_run_goes_on_and_is_found_again(followed, stub):
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    pid = followed.process.pid
    followed.process.letGo()
    assert not gone(pid)
    again = Followed(followed.process.runDir)
    again.process.attach()
    assert again.events[0]["kind"] == "started" and again.process.pid == pid
    count = len(again.events)
    assert until(lambda: len(again.events) > count), "new events arrive"
    again.process.stop()
    assert again.ended().state == State.Paused


def test_attached_run_that_is_killed_counts_as_interrupted(followed, stub):
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    followed.process.letGo()
    again = Followed(followed.process.runDir)
    again.process.attach()
    os.kill(again.process.pid, signal.SIGKILL)
    ending = again.ended()
    assert ending.state in (State.Interrupted, State.Failed)
    assert RunState.summarize(followed.process.runDir).state == State.Interrupted


def test_run_that_is_not_detached_ends_with_us(followed, stub):
    stub.behave("forever")
    followed.run().heard("progress")
    followed.process.letGo()
    assert until(lambda: gone(followed.process.pid))


def test_run_that_is_not_detached_ends_when_slicer_is_killed(stub, tmp_path):
    slicer_stand_in = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    stub.behave("forever")
    run_dir = tmp_path / "run"
    protocol.write_job(run_dir, protocol.Job("predict", {}))
    arguments = EngineProcess.startArguments(run_dir, False, {})
    arguments[arguments.index("--parent") + 1] = str(slicer_stand_in.pid)
    engine = subprocess.Popen([sys.executable, *arguments], start_new_session=True)
    assert until(lambda: (run_dir / protocol.EVENTS_FILE).exists())
    slicer_stand_in.kill()
    slicer_stand_in.wait()
    assert engine.wait(120) != 0


def test_queued_run_waits_for_its_turn_and_then_starts(followed, stub, tmp_path):
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    second = Followed(tmp_path / "second")
    second.process.runDir.mkdir()
    second.process.start("train", {"device": "cpu"}, detached=True, after={followed.process.runDir: 0})
    assert until(lambda: RunState.summarize(second.process.runDir).state == State.Queued)
    assert second.events == [], "nothing runs yet"
    stub.behave("finish")
    followed.process.stop()
    assert second.ended().state == State.Finished


def test_a_run_is_waited_for_from_its_start_to_its_end_whatever_its_lock_says(tmp_path, monkeypatch):
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = tmp_path / "first"
    folder.mkdir()
    unknown, young = StartEngine.EarlierRun(folder), StartEngine.EarlierRun(folder, program.pid)
    assert [unknown.isBusy(), young.isBusy()] == [False, True], "its program runs, its lock is still to come"
    lock = {"pid": program.pid, "host": socket.gethostname()}
    (folder / protocol.LOCK_FILE).write_text(json.dumps(lock))
    assert [unknown.isBusy(), young.isBusy()] == [True, True]
    (folder / protocol.LOCK_FILE).unlink()
    assert [unknown.isBusy(), young.isBusy()] == [True, True], "the lock changes hands"
    monkeypatch.setattr(StartEngine, "_START_SECONDS", 0.0)
    assert not young.isBusy(), "a program of this number that never takes the lock is another one"
    monkeypatch.undo()
    program.communicate(b"\n")
    assert [unknown.isBusy(), young.isBusy()] == [False, False]


def test_an_earlier_run_on_another_computer_is_known_by_its_lock_alone(tmp_path):
    run = StartEngine.EarlierRun(tmp_path)
    (tmp_path / protocol.LOCK_FILE).write_text(json.dumps({"pid": os.getpid(), "host": "elsewhere"}))
    assert run.isBusy()
    (tmp_path / protocol.LOCK_FILE).unlink()
    assert not run.isBusy(), "a process of that number here is another one"


def test_a_run_that_is_let_go_leaves_no_zombie(followed, stub):
    stub.behave("finish")
    followed.run(detached=True)
    pid = followed.process.pid
    followed.process.letGo()
    assert until(lambda: not protocol.process_exists(pid)), "those that wait for it would go on waiting"


def test_queued_run_can_be_taken_back(followed, stub, tmp_path):
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    second = Followed(tmp_path / "second")
    second.process.start("train", {"device": "cpu"}, detached=True, after={followed.process.runDir: 0})
    assert until(lambda: RunState.summarize(second.process.runDir).state == State.Queued)
    second.process.pause()
    assert second.ended().state == State.Paused


def test_no_event_is_lost_when_a_line_comes_in_two_parts(followed, stub):
    stub.behave("deaf")
    followed.run().heard("started")
    path = followed.process.runDir / protocol.EVENTS_FILE
    with open(path, "a") as stream:
        stream.write('{"kind": "state", "mess')
        stream.flush()
        followed.process.poll()
        assert followed.events[-1]["kind"] == "started"
        stream.write('age": "ü"}\n')
    followed.process.poll()
    assert followed.events[-1]["message"] == "ü"


def test_names_with_spaces_and_other_scripts(stub, tmp_path):
    one = Followed(tmp_path / "Läufe 中文" / "run 1")
    assert one.run().ended().state == State.Finished


def test_events_at_fifty_per_second_leave_the_event_loop_free(followed, stub):
    """How long the window computes in one turn of its event loop while a run reports; processor time, for the computer may be busy."""
    stub.behave("forever")
    followed.run(detached=True).heard("progress")
    gaps, last = [], time.thread_time()
    timer = qt.QTimer()
    timer.interval = 1

    def tick():
        nonlocal last
        now = time.thread_time()
        gaps.append(now - last)
        last = now

    timer.connect("timeout()", tick)
    timer.start()
    assert until(lambda: len(gaps) > 20, 120)
    timer.stop()
    assert sorted(gaps)[-2] < 0.2, "generous: the benchmark measures it"
