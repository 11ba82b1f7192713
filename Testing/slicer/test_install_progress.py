"""How far an installation is: what pip prints is read, and the time left follows from what has come."""

import pytest
from pytorch_extension import Extension, played
from test_setup_page import GPU, page, pip  # noqa: F401 (fixtures)
from train_bed import until

from TransMedSegLib import Computer, InstallProgressBox, InstallSize, PipInstall, SetupPage
from TransMedSegLib.PipProgress import Phase, PipProgress

MB = 1_000_000


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def heard(progress, clock, *lines, seconds=0.0):
    """Which of the lines, one after the other, are none for the log."""
    found = []
    for line in lines:
        found.append(progress.hear(line))
        clock.now += seconds
    return found


def test_lines_about_a_download_alone_are_none_for_the_log(clock):
    progress = PipProgress(0, clock)
    lines = ["Collecting torch", "  Downloading torch-2.15.0.whl (539.2 MB)", "Progress 0 of 539200000", "Progress 7 of 0", "In Progress 1 of 2", "Progress of 3"]
    assert heard(progress, clock, *lines) == [False, False, True, True, False, False]


def test_nothing_is_said_of_a_download_before_it_begins(clock):
    progress = PipProgress(3000 * MB, clock)
    assert heard(progress, clock, "Collecting torch>=2.4") == [False]
    assert (progress.phase, progress.received, progress.secondsLeft) == (Phase.Looking, 0, None)
    assert progress.text() == "Looking for the packages that fit…"


def test_files_add_up_to_what_was_expected(clock):
    """300 of 3000 MB in 20 seconds: 15 MB a second, 180 seconds to go."""
    progress = PipProgress(3000 * MB, clock)
    heard(progress, clock, f"Progress 0 of {200 * MB}", f"Progress {100 * MB} of {200 * MB}", f"Progress {200 * MB} of {200 * MB}", seconds=5)
    heard(progress, clock, "Downloading triton-3.9.0.whl (285.7 MB)", f"Progress 0 of {285 * MB}")
    clock.now += 5
    heard(progress, clock, f"Progress {100 * MB} of {285 * MB}")
    assert (progress.received, progress.total) == (300 * MB, 3000 * MB)
    assert progress.secondsLeft == pytest.approx(180)
    assert progress.text() == "300 MB of about 3.0 GB downloaded, 3 min 0 s left"


def test_the_rate_is_that_of_the_last_seconds(clock):
    progress = PipProgress(1000 * MB, clock)
    for done in range(0, 500, 100):  # fast at first: 100 MB a second
        heard(progress, clock, f"Progress {done * MB} of {1000 * MB}", seconds=1)
    for done in range(410, 450):  # then 1 MB a second
        heard(progress, clock, f"Progress {done * MB} of {1000 * MB}", seconds=1)
    assert progress.secondsLeft == pytest.approx(551)


def test_no_time_is_said_before_the_rate_is_known(clock):
    progress = PipProgress(1000 * MB, clock)
    heard(progress, clock, f"Progress 0 of {1000 * MB}", f"Progress {5 * MB} of {1000 * MB}", seconds=1)
    assert progress.secondsLeft is None and progress.text() == "5 MB of about 1.0 GB downloaded"


def test_more_than_expected_is_no_more_than_all(clock):
    progress = PipProgress(100 * MB, clock)
    heard(progress, clock, f"Progress 0 of {400 * MB}", f"Progress {200 * MB} of {400 * MB}", seconds=10)
    assert (progress.received, progress.total) == (200 * MB, 400 * MB)
    assert progress.secondsLeft == pytest.approx(10)


def test_what_pip_has_kept_does_not_come_again(clock):
    progress = PipProgress(3000 * MB, clock)
    heard(progress, clock, "Using cached torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl (539.2 MB)")
    heard(progress, clock, "  Using cached nvidia_cublas-13.4-py3-none-any.whl (1.4 GB)", "Using cached sympy-1.14.0-py3-none-any.whl (6300 kB)")
    heard(progress, clock, f"Progress 0 of {10 * MB}")
    assert progress.total == round((3000 - 539.2 - 1400 - 6.3) * MB)


def test_a_connection_that_broke_counts_no_byte_twice(clock):
    progress = PipProgress(0, clock)
    heard(progress, clock, f"Progress 0 of {100 * MB}", f"Progress {60 * MB} of {100 * MB}", f"Progress {50 * MB} of {100 * MB}", f"Progress {100 * MB} of {100 * MB}")
    assert progress.received == 100 * MB
    heard(progress, clock, f"Progress {100 * MB} of {100 * MB}")
    assert progress.received == 200 * MB, "another file of the same size"


def test_a_server_that_tells_no_size(clock):
    progress = PipProgress(0, clock)
    heard(progress, clock, "Progress 0 of 0", f"Progress {30 * MB} of 0", "Progress 0 of 0", f"Progress {5 * MB} of 0")
    assert (progress.received, progress.total, progress.secondsLeft) == (35 * MB, 0, None)
    assert progress.text() == "35 MB downloaded"


def test_unpacking_and_undoing_are_said(clock):
    progress = PipProgress(100 * MB, clock)
    heard(progress, clock, f"Progress {100 * MB} of {100 * MB}", "Installing collected packages: mpmath, sympy, torch")
    assert (progress.text(), progress.secondsLeft) == ("Unpacking the packages…", None)
    heard(progress, clock, "Successfully installed mpmath-1.3.0 sympy-1.14.0 torch-2.15.0")
    assert progress.phase == Phase.Looking, "there may be others to come"
    heard(progress, clock, f"Progress 0 of {5 * MB}")
    assert progress.phase == Phase.Downloading, "the next packages come"
    progress.undo()
    assert progress.text() == "Removing what was added…"


def test_the_bar_shows_a_share_or_that_something_is_done(clock):
    box = InstallProgressBox.InstallProgressBox()
    assert box.text == ""
    progress = PipProgress(1000 * MB, clock)
    box.follow(progress)
    assert (box.share, box.text) == (None, "Looking for the packages that fit…")
    heard(progress, clock, f"Progress {250 * MB} of {500 * MB}")
    box.follow(progress)
    assert (box.share, box.text) == (0.25, "250 MB of about 1.0 GB downloaded")


# From pip to the page


def test_pip_is_asked_for_its_progress_where_it_can_tell(pip):  # noqa: F811
    for version, count in (("25.1.1", 1), ("23.2.1", 0)):
        pip.versions["pip"] = version
        pip.outcomes.clear()
        pip.install().start(["h5py>=3.10"])
        assert pip.outcome().code == ""
        assert pip.calls()[-1].count("--progress-bar") == count, version


def test_a_line_that_comes_in_two_pieces_is_one(pip):  # noqa: F811
    """As the system hands over what a process writes, in the middle of a number."""
    pieces = f"""
import pathlib, time
print("Progress 10485", end="", flush=True)
while not pathlib.Path({str(pip.folder / "go")!r}).exists():
    time.sleep(0.01)
print("76 of 2000000\\nlast", end="")
"""
    (pip.folder / "pip_stub.py").write_text(pieces)
    seen = []
    install = pip.install(lambda progress: seen.append(progress.received))
    install.start(["h5py>=3.10"])
    assert until(lambda: install._rest == b"Progress 10485")
    (pip.folder / "go").touch()
    assert pip.outcome().code == ""
    assert sorted(set(seen)) == [0, 1048576] and pip.lines == ["last"]


def test_the_page_shows_the_progress_of_a_download(page, pip, monkeypatch):  # noqa: F811
    played(monkeypatch, Extension())
    monkeypatch.setattr(SetupPage, "installedVersions", lambda: dict(pip.versions))
    Computer.setGpus([GPU])
    pip.plan(log=f"Downloading torch.whl (900 MB)\nProgress 0 of {900 * MB}\nProgress {750 * MB} of {900 * MB}", waits=True)
    page.install(["torch>=2.4"])
    assert page.progress.text == "Looking for the packages that fit…"
    assert until(lambda: page.progress.share == 0.25)
    assert page.progress.text == "750 MB of about 3.0 GB downloaded"
    assert page.log.toPlainText() == "Downloading torch.whl (900 MB)"
    (pip.folder / "go").touch()
    assert until(lambda: not page.isInstalling)
    assert page.progress.text == "" and page.notice.message == "Installed."


def test_a_pip_that_tells_nothing_leaves_the_bar_busy(page, pip):  # noqa: F811
    pip.plan(waits=True)
    page.install(["h5py>=3.10"])
    assert until(lambda: page.log.toPlainText() == "Collecting torch")
    assert (page.progress.share, page.progress.text) == (None, "Looking for the packages that fit…")
    (pip.folder / "go").touch()
    assert until(lambda: not page.isInstalling)


def test_nothing_is_expected_from_a_folder_of_wheels(page, monkeypatch, tmp_path):  # noqa: F811
    begun = []
    monkeypatch.setattr(PipInstall.PipInstall, "start", lambda self, *given: begun.append(given))
    for folder in (None, tmp_path):
        page.install(["h5py>=3.10"], folder)
    assert [given[2] for given in begun] == [5 * MB, 0]


def test_sizes_are_known_of_all_that_the_engine_needs():
    from TransMedSegLib.EngineSetup import requirements

    for hasGpu in (True, False):
        assert InstallSize.downloadBytes(requirements(), hasGpu) > 200 * MB
    assert InstallSize.downloadBytes(["h5py", "something"], True) == 0
