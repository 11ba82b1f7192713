"""Pytest plugin: a full run fails when fewer tests ran than were counted before.

A test that is no longer found, or is skipped, is as silent as one that passes. The number in minimum_tests.txt is
raised by hand when tests are added, so that losing one is noticed.
"""

from pathlib import Path


class MinimumCount:
    """Counts the tests of one folder that ran to their end, passed or failed.

    Args:
        folder: the folder of the tests; minimum_tests.txt lies in it.
    """

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.minimum = int((self.folder / "minimum_tests.txt").read_text())
        self.ran = set()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and not report.skipped:
            self.ran.add(report.nodeid)

    def pytest_sessionfinish(self, session, exitstatus):
        if self._is_full_run(session.config) and len(self.ran) < self.minimum:
            print(f"\nonly {len(self.ran)} tests ran; minimum_tests.txt asks for {self.minimum}")
            session.exitstatus = max(int(exitstatus), 1)

    def _is_full_run(self, config):
        """False where the person asked for a part: some files, names, marks or the last failures."""
        option = config.option
        if hasattr(config, "workerinput"):
            return False  # one of several processes; the one that started them hears of every test
        if option.keyword or option.markexpr or option.collectonly or getattr(option, "lf", False):
            return False
        folders = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
        return any(self.folder.is_relative_to(folder) for folder in folders)
