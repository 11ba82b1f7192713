"""The mailbox: what is written is read back, whatever was cut off in between, and a folder has one owner."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg import protocol
from semiseg.errors import InputError
from semiseg.protocol import (
    EVENT_KINDS,
    HEARTBEAT_SECONDS,
    LOCK_FILE,
    VERBS,
    EventWriter,
    HeldLock,
    Job,
    ProtocolError,
    ask_to_stop,
    forget_earlier_stop,
    last_event_time,
    process_exists,
    read_events,
    read_job,
    read_lock,
    write_job,
    write_text_atomically,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
quick = settings(max_examples=30, deadline=None)


# Jobs


@quick
@given(verb=st.sampled_from(VERBS), options=st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_every_job_survives_the_file(tmp_path_factory, verb, options):
    folder = tmp_path_factory.mktemp("job") / "new" / "folder"
    job = Job(verb, options)
    assert write_job(folder, job) == folder / "job.json"
    assert read_job(folder) == job


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"train"',
        "{}",
        '{"verb": "train", "options": 3, "protocol": 1}',
        '{"verb": "train", "options": ["a"], "protocol": 1}',
        '{"verb": "train", "options": {}, "protocol": "one"}',
        '{"verb": "train", "options": {}, "protocol": null}',
        '{"verb": "fly", "options": {}, "protocol": 1}',
        '{"verb": "train", "options": {}, "protocol": 99}',
        '{"verb": "train", "options": {}}',
    ],
)
def test_what_is_not_a_job_is_refused(text, tmp_path):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ProtocolError):
        read_job(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "job.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ProtocolError):
        read_job(tmp_path)


def test_no_job_is_told_apart_from_a_bad_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_job(tmp_path)


def test_a_newer_protocol_says_which_to_update(tmp_path):
    with pytest.raises(ProtocolError, match="99.*Update"):
        Job("train", {}, 99)


# Atomic writes


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "job.json"
    write_text_atomically(path, "old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_job(tmp_path):
    """One thread writes two jobs in turn, the other reads: it must always find one of the two."""
    jobs = [Job("train", {"note": "a" * 50_000}), Job("predict", {"note": "b" * 50_000})]
    write_job(tmp_path, jobs[0])
    stop = threading.Event()

    def write():
        turn = 0
        while not stop.is_set():
            turn += 1
            write_job(tmp_path, jobs[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(read_job(tmp_path) in jobs for _ in range(40))
    finally:
        stop.set()
        writer.join()


# Events


@quick
@given(kind=st.sampled_from(sorted(EVENT_KINDS)), values=st.dictionaries(st.sampled_from(["name", "value", "text"]), json_values))
def test_every_event_survives_the_file(tmp_path_factory, kind, values):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    writer = EventWriter(path)
    writer(kind, **values)
    writer.close()
    (event,), offset = read_events(path)
    assert offset == path.stat().st_size
    assert abs(event.pop("time") - time.time()) < 60
    assert event == {"kind": kind, **values}


def test_events_are_read_in_parts(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read_events(path) == ([], 0)
    writer = EventWriter(path)
    writer("state", message="one")
    first, offset = read_events(path)
    writer("state", message="two")
    writer("state", message="drei – 三")
    second, end = read_events(path, offset)
    writer.close()
    assert [event["message"] for event in first + second] == ["one", "two", "drei – 三"]
    assert read_events(path, end) == ([], end)


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path):
    path = tmp_path / "events.jsonl"
    line = '{"kind": "state", "message": "hello"}\n'
    for cut in (1, 20, len(line) - 1):
        path.write_text(line + line[:cut])
        events, offset = read_events(path)
        assert len(events) == 1 and offset == len(line)
        path.write_text(line + line)
        assert len(read_events(path, offset)[0]) == 1


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\n", b"{half a line\n", b"[1, 2]\n", b'"kind"\n', b'{"name": 1}\n', b"\xff\xfe\n", b"\n"])
def test_a_line_that_is_no_event_is_skipped(garbage, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "state", "n": 1}\n' + garbage + b'{"kind": "state", "n": 2}\n')
    events, offset = read_events(path)
    assert [event["n"] for event in events] == [1, 2] and offset == path.stat().st_size


def test_a_run_that_was_cut_off_does_not_swallow_the_first_event_of_the_next(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "state", "n": 1}\n{"kind": "progress", "do')
    writer = EventWriter(path)
    writer("started", n=2)
    writer.close()
    assert [event["n"] for event in read_events(path)[0]] == [1, 2]


def test_events_of_several_threads_stay_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)

    def write(number):
        for count in range(50):
            writer("state", message="x" * 500, thread=number, count=count)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    events, _ = read_events(path)
    assert len(events) == 200 and all(len(event["message"]) == 500 for event in events)


def test_unknown_kinds_are_a_mistake_of_ours(tmp_path):
    with pytest.raises(ProtocolError, match="finnished"):
        EventWriter(None)("finnished")


def test_other_ranks_write_nothing(tmp_path):
    writer = EventWriter(None)
    writer("state", message="unheard")
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_asking_to_stop_leaves_an_empty_file(tmp_path):
    ask_to_stop(tmp_path)
    ask_to_stop(tmp_path)
    assert (tmp_path / "stop").read_bytes() == b""


def test_a_stop_that_comes_while_the_engine_starts_is_kept(tmp_path):
    """One from before, whether of a run that obeyed it or of a process that was killed, is not."""
    stop, now = tmp_path / "stop", time.time()
    forget_earlier_stop(tmp_path, 0.0)
    ask_to_stop(tmp_path)
    forget_earlier_stop(tmp_path, last_event_time(tmp_path))
    assert stop.exists(), "of this process's time, and no run was heard of"
    forget_earlier_stop(tmp_path, now + 60)
    assert not stop.exists(), "a run was heard of after it"
    ask_to_stop(tmp_path)
    os.utime(stop, (now - 86400, now - 86400))
    forget_earlier_stop(tmp_path, 0.0)
    assert not stop.exists(), "older than this process"


def test_a_stop_is_for_this_run_where_its_starter_has_cleared_away_the_earlier_one(tmp_path, monkeypatch):
    """Whoever presses Stop before this process has begun to look at the clock is heard too."""
    stop, long_ago = tmp_path / "stop", time.time() - 86400
    ask_to_stop(tmp_path)
    os.utime(stop, (long_ago, long_ago))
    monkeypatch.setenv(protocol.STARTED_VARIABLE, str(tmp_path))
    forget_earlier_stop(tmp_path, time.time())
    assert stop.exists()
    monkeypatch.setenv(protocol.STARTED_VARIABLE, str(tmp_path / "baseline"))
    forget_earlier_stop(tmp_path, 0.0)
    assert not stop.exists(), "that was of another folder"


# The lock


def write_lock(folder, pid, host=None, age_s=0.0):
    path = folder / LOCK_FILE
    path.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "device": "cuda:0", "engine": "/e", "version": "1"}))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def living_pid():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process.pid
    process.kill()
    process.wait()


def hold(folder):
    return HeldLock(folder, "cpu", "/engine", "0.1.0")


def test_a_held_folder_says_who_holds_it(tmp_path):
    with hold(tmp_path):
        lock = read_lock(tmp_path)
        assert (lock.pid, lock.host, lock.device, lock.engine, lock.version) == (os.getpid(), socket.gethostname(), "cpu", "/engine", "0.1.0")
        assert lock.is_alive and lock.is_this_process and lock.age_s < 5
    assert read_lock(tmp_path) is None and list(tmp_path.iterdir()) == []


def test_a_lock_is_never_seen_empty(tmp_path, monkeypatch):
    """A reader would take a run that waits for one that works."""
    link = os.link

    def late(source, target):
        assert read_lock(tmp_path) is None, "there is none before it is whole"
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with hold(tmp_path):
        assert read_lock(tmp_path).device == "cpu" and [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_a_draft_that_somebody_reads_is_no_hindrance(tmp_path, monkeypatch):
    """Windows removes no open file, and who reads the lock reads its draft."""
    unlink = Path.unlink

    def refuses(path, *args, **keywords):
        if path.name.endswith(".part"):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        unlink(path, *args, **keywords)

    monkeypatch.setattr(Path, "unlink", refuses)
    with hold(tmp_path):
        assert read_lock(tmp_path).is_this_process
    assert read_lock(tmp_path) is None


def test_a_file_system_without_links_has_locks(tmp_path, monkeypatch):
    def refuses(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuses)
    with hold(tmp_path):
        assert read_lock(tmp_path).is_this_process
        with pytest.raises(FileExistsError):
            HeldLock(tmp_path, "cpu", "/engine", "0.1.0")._create()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_also_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="oops"), hold(tmp_path):
        raise ValueError("oops")
    assert read_lock(tmp_path) is None


def test_a_folder_of_a_living_worker_is_refused(tmp_path, living_pid):
    path = write_lock(tmp_path, living_pid)
    before = path.read_text()
    with pytest.raises(BlockingIOError, match=str(living_pid)), hold(tmp_path):
        pass
    assert path.read_text() == before


def test_a_vanished_process_frees_its_folder_at_once(tmp_path, dead_pid):
    write_lock(tmp_path, dead_pid)
    assert not read_lock(tmp_path).is_alive
    with hold(tmp_path):
        assert read_lock(tmp_path).pid == os.getpid()


def test_a_lock_that_nobody_renews_is_stale(tmp_path, living_pid):
    """Its process id was given to another program since."""
    write_lock(tmp_path, living_pid, age_s=12 * HEARTBEAT_SECONDS + 5)
    assert not read_lock(tmp_path).is_alive
    with hold(tmp_path):
        pass


def test_of_another_computer_only_the_age_counts(tmp_path, dead_pid):
    write_lock(tmp_path, dead_pid, host="elsewhere")
    assert read_lock(tmp_path).is_alive
    with pytest.raises(BlockingIOError, match="elsewhere"), hold(tmp_path):
        pass
    write_lock(tmp_path, dead_pid, host="elsewhere", age_s=12 * HEARTBEAT_SECONDS + 5)
    with hold(tmp_path):
        pass


def test_our_process_id_on_another_computer_is_not_us(tmp_path):
    """Containers count their processes from 1, so workers of two computers often have the same number."""
    write_lock(tmp_path, os.getpid(), host="elsewhere")
    assert not read_lock(tmp_path).is_this_process
    with pytest.raises(BlockingIOError, match="elsewhere"), hold(tmp_path):
        pass


def test_a_process_may_take_over_its_own_lock(tmp_path):
    """The queue in front of a run holds its folder, and the run starts in the same process."""
    write_lock(tmp_path, os.getpid())
    with hold(tmp_path):
        assert read_lock(tmp_path).device == "cpu"


def test_a_lock_that_somebody_reads_is_handed_on_a_moment_later(tmp_path, monkeypatch):
    """On Windows a file that is open elsewhere cannot be replaced."""
    write_lock(tmp_path, os.getpid())
    replace, refused = os.replace, []

    def busy(*paths):
        if len(refused) < 3:
            refused.append(paths)
            raise PermissionError(13, "The process cannot access the file")
        replace(*paths)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    protocol.HeldLock(tmp_path, "cuda:1", "", "").__enter__().__exit__()
    assert len(refused) == 3 and read_lock(tmp_path) is None


def test_a_lock_that_is_handed_on_is_never_free(tmp_path, monkeypatch):
    """Nor is it taken from who got the folder after it was released."""
    with hold(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(protocol.HeldLock, "_create", lambda _: pytest.fail("for a moment the folder was anybody's"))
            second = hold(tmp_path).__enter__()
        second.__exit__()
        assert read_lock(tmp_path) is None
        write_lock(tmp_path, os.getpid() + 1)
    assert read_lock(tmp_path).pid == os.getpid() + 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "host": 1}', "{}"])
def test_a_lock_that_cannot_be_read_blocks_until_it_is_stale(content, tmp_path):
    path = tmp_path / LOCK_FILE
    path.write_text(content)
    assert read_lock(tmp_path).is_alive, "its owner may be writing it right now"
    with pytest.raises(BlockingIOError), hold(tmp_path):
        pass
    os.utime(path, (time.time() - 1000,) * 2)
    with hold(tmp_path):
        assert read_lock(tmp_path).pid == os.getpid()


def test_a_worker_that_came_first_by_a_moment_wins(tmp_path, monkeypatch, living_pid):
    """Nobody held the folder when we looked, and somebody does when we write."""
    write_lock(tmp_path, living_pid)
    monkeypatch.setattr(protocol, "read_lock", lambda _: None)
    with pytest.raises(BlockingIOError), hold(tmp_path):
        pass
    monkeypatch.undo()
    assert read_lock(tmp_path).pid == living_pid


def test_the_lock_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "HEARTBEAT_SECONDS", 0.02)
    with hold(tmp_path):
        os.utime(tmp_path / LOCK_FILE, (time.time() - 1000,) * 2)
        end = time.monotonic() + 10
        while read_lock(tmp_path).age_s > 100 and time.monotonic() < end:
            time.sleep(0.02)
        assert read_lock(tmp_path).age_s < 100


def test_processes_are_known_by_their_number(living_pid, dead_pid):
    assert process_exists(os.getpid()) and process_exists(living_pid) and not process_exists(dead_pid)


# Errors speak in four parts


def test_an_error_says_code_message_place_and_remedy(tmp_path):
    error = InputError("Too few cases.", code="E801", hint="Add some.", path=tmp_path)
    assert str(error) == f"E801: Too few cases. ({tmp_path}) Add some."
    assert str(InputError(f"No file {tmp_path}.", path=tmp_path)).count(str(tmp_path)) == 1
    assert str(InputError("Plain.")) == "Plain."
