"""Runs inside Slicer: the engine that lies beside the modules answers when PythonSlicer starts it."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from semiseg import __version__, protocol
from TransMedSegLib.EngineProcess import engineFolder, enginePython, startArguments


class EngineStartTest(unittest.TestCase):
    def test_EngineOfThisExtensionAnswers(self):
        with tempfile.TemporaryDirectory() as folder:
            runDir = Path(folder)
            protocol.write_job(runDir, protocol.Job("evaluate", {}))  # refused at once: there is nothing to score
            command = [enginePython(), *startArguments(runDir, True, {})]
            subprocess.run(command, capture_output=True, timeout=300, check=False)
            events, _offset = protocol.read_events(runDir / protocol.EVENTS_FILE)
        self.assertEqual(events[0]["kind"], "started")
        self.assertEqual(events[0]["version"], __version__)
        self.assertEqual(Path(events[0]["engine"]).resolve(), engineFolder() / "semiseg")
        self.assertEqual(events[-1]["kind"], "failed")
