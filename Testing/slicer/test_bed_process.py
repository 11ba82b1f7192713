"""Child processes, timers and packages."""

import os
import sys
import time

import pytest
import qt
import slicer
from bed import boot, dialogs
from slicer import packaging


def test_process_writes_and_ends():
    process, got, ended = qt.QProcess(), [], []
    process.setProcessChannelMode(process.MergedChannels)
    process.connect("readyReadStandardOutput()", lambda: got.append(bytes(process.readAllStandardOutput().data())))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "print('hello'); raise SystemExit(3)"])
    assert boot.process_events(120, until=lambda: ended)
    assert b"".join(got).strip() == b"hello"
    assert ended == [(3, qt.QProcess.NormalExit)]


def test_process_that_cannot_start_says_so():
    process, problems = qt.QProcess(), []
    process.connect("errorOccurred(QProcess::ProcessError)", lambda error: problems.append(error))
    process.start("/no/such/program", [])
    assert boot.process_events(120, until=lambda: problems)
    assert problems == [qt.QProcess.FailedToStart] and process.errorString()


def test_process_is_killed():
    process, ended = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append(status))
    process.start(sys.executable, ["-c", "import time; time.sleep(60)"])
    assert process.waitForStarted(10000)
    process.kill()
    assert boot.process_events(120, until=lambda: ended)
    assert ended == [process.CrashExit] and process.state() == process.NotRunning


@pytest.mark.parametrize("static", [True, False])
def test_detached_process_outlives_its_object(tmp_path, static):
    mark = tmp_path / "pid.txt"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(30)"
    if static:
        started = qt.QProcess.startDetached(sys.executable, ["-c", code])
    else:
        process = qt.QProcess()
        process.setProgram(sys.executable)
        process.setArguments(["-c", code])
        started = process.startDetached()
        del process
    assert started is True  # PythonQt gives no process id: the child has to write it down
    assert boot.process_events(120, until=lambda: mark.exists() and mark.read_text())
    pid = int(mark.read_text())
    os.kill(pid, 0)
    os.kill(pid, 9)


def test_timer_and_time_limit():
    got = []
    timer = qt.QTimer()
    timer.interval = 10
    timer.connect("timeout()", lambda: got.append(1))
    timer.start()
    assert boot.process_events(120, until=lambda: len(got) >= 3)
    timer.stop()
    started = time.monotonic()
    assert boot.process_events(0.1, until=lambda: False) is False
    assert 0.1 <= time.monotonic() - started < 2
    qt.QTimer.singleShot(0, lambda: got.append("once"))
    boot.process_events(0.05)
    assert got[-1] == "once"


def test_console_process_of_slicer_util_does_not_block():
    lines, codes = [], []
    process = slicer.util.launchConsoleProcess(
        [sys.executable, "-c", "print(1); print(2)"],
        blocking=False,
        logCallback=lines.append,
        completedCallback=codes.append,
    )
    assert boot.process_events(120, until=lambda: codes)
    process.stdout.close()  # slicer.util leaves it open
    assert lines == ["1", "2"] and codes == [0]


@pytest.fixture
def packages():
    packaging.calls.clear()
    packaging.installed.clear()
    yield packaging
    packaging.calls.clear()
    packaging.installed.clear()


def test_packages_are_checked(tmp_path, packages):
    path = tmp_path / "requirements.txt"
    path.write_text("# ours\nnumpy>=1.20\nno-such-package>=2  # comment\n\nwindows-only; sys_platform == 'win32'\n")
    requirements = packages.load_requirements(path)
    assert [str(one.name) for one in requirements] == ["numpy", "no-such-package", "windows-only"]
    assert [packages.pip_check(one) for one in requirements] == [True, False, True]
    packages.installed["no-such-package"] = "2.1"
    assert packages.pip_check(requirements)
    packages.installed["numpy"] = None
    assert not packages.pip_check(requirements)


def test_packages_are_not_installed(packages):
    requirements = [__import__("packaging.requirements").requirements.Requirement("no-such-package>=2")]
    packages.pip_ensure(requirements, requester="Bed")
    assert packages.calls == [], "testing mode skips, as in Slicer"
    dialogs.answers["confirmOkCancelDisplay"] = [True]
    packages.pip_ensure(requirements, requester="Bed", skip_in_testing=False)
    assert packages.calls == [("pip_install", ["no-such-package>=2"])]
    assert "no-such-package>=2" in dialogs.texts()[0]


def test_packages_refused_by_the_user(packages):
    requirements = [__import__("packaging.requirements").requirements.Requirement("no-such-package>=2")]
    dialogs.answers["confirmOkCancelDisplay"] = [False]
    with pytest.raises(RuntimeError):
        packages.pip_ensure(requirements, requester="Bed", skip_in_testing=False)
    assert packages.calls == []


def test_install_in_the_background(packages):
    lines, codes = [], []
    slicer.util.pip_install("a b", blocking=False, logCallback=lines.append, completedCallback=codes.append)
    assert packages.isPipInstallInProgress() and codes == []
    boot.process_events(1, until=lambda: codes)
    assert codes == [0] and not packages.isPipInstallInProgress()
    assert packages.calls == [("pip_install", ["a", "b"])]


def test_python_launcher_runs_python():
    import shutil

    path = shutil.which("PythonSlicer")
    assert path.startswith(slicer.app.slicerHome)
    process, ended = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append(code))
    process.start(path, ["-c", "import sys; sys.exit(7)"])
    assert boot.process_events(120, until=lambda: ended) and ended == [7]


def test_killing_the_launcher_leaves_python_alive(tmp_path):
    import shutil

    mark = tmp_path / "pid.txt"
    process = qt.QProcess()
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(30)"
    process.start(shutil.which("PythonSlicer"), ["-c", code])
    assert boot.process_events(120, until=lambda: mark.exists() and mark.read_text())
    process.kill()
    assert process.waitForFinished(5000)
    pid = int(mark.read_text())
    os.kill(pid, 0)
    os.kill(pid, 9)


def test_standard_paths_lie_in_the_bed():
    path = qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppDataLocation)
    assert path.startswith(slicer.app.defaultScenePath)
