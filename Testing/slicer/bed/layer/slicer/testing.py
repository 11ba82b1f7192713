"""Stand-in for slicer.testing: how ctest runs the tests of a module."""

import importlib
import unittest


def runUnitTest(path, testname):
    """Runs the unittest cases of a module and raises where one fails or where there is none to run."""
    import sys

    sys.path[:0] = [path] if isinstance(path, str) else list(path)
    suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(testname))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.testsRun:
        raise RuntimeError(f"{testname} has no tests")
    if not result.wasSuccessful():
        raise RuntimeError(f"{len(result.failures) + len(result.errors)} tests of {testname} failed")
