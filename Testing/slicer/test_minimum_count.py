"""The plugin that counts: it must notice lost tests, also where several processes share them."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = "import os\nfrom minimum_count import MinimumCount\n\ndef pytest_configure(config):\n    config.pluginmanager.register(MinimumCount(os.path.dirname(__file__)))\n"
TESTS = "import pytest\n\ndef test_one():\n    pass\n\ndef test_two():\n    pass\n\ndef test_three():\n    pytest.skip('not here')\n"


def run(folder, minimum, *flags):
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "minimum_tests.txt").write_text(str(minimum))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(Path(__file__).parent), "PATH": ""}, check=False)


@pytest.mark.parametrize("flags", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_run_with_fewer_tests_than_were_counted_fails(tmp_path, flags):
    enough, few = run(tmp_path, 2, *flags), run(tmp_path, 3, *flags)
    assert enough.returncode == 0, enough.stdout
    assert few.returncode == 1 and "only 2 tests ran; minimum_tests.txt asks for 3" in few.stdout, "a skipped test does not count"


def test_a_part_of_the_tests_may_be_run(tmp_path):
    assert run(tmp_path, 3, "-k", "one").returncode == 0
