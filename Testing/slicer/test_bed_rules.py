"""The bed's own rules: the minimum count of tests, the layer parameter, and files short enough to read."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def _pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def small_suite(tmp_path):
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
        "from minimum_count import MinimumCount\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(MinimumCount('.'))\n"
    )
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "def test_runs(): pass\n"
        "@pytest.mark.skip(reason='to be counted as not run')\n"
        "def test_skipped(): pass\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "minimum, arguments, code",
    [(1, ["."], 0), (2, ["."], 1), (2, [], 1), (2, ["-k", "runs"], 0), (2, ["test_x.py"], 0)],
)
def test_full_run_with_too_few_tests_fails(small_suite, minimum, arguments, code):
    (small_suite / "minimum_tests.txt").write_text(str(minimum))
    result = _pytest(small_suite, *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    assert ("minimum_tests.txt asks for" in result.stdout) == (code == 1)


def test_the_count_is_not_forgotten():
    assert int((FOLDER / "minimum_tests.txt").read_text()) > 100


def test_another_layer_comes_first(tmp_path):
    """Run in a process of its own: the layer is chosen once."""
    (tmp_path / "slicer").mkdir()
    (tmp_path / "slicer" / "i18n.py").write_text("def tr(text): return text.upper()\n")
    (tmp_path / "sitkUtils.py").write_text("WHERE = 'the other layer'\n")
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
        "from bed import boot\n"
        f"boot.start(layer={str(tmp_path)!r})\n"
        "import sitkUtils\n"
        "from slicer.i18n import tr\n"
        "import slicer.util\n"
        "print(tr('hello'), sitkUtils.WHERE, slicer.util.__file__)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("HELLO the other layer"), result.stderr
    assert "site-packages" in result.stdout


def test_bed_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in (FOLDER / "bed").rglob("*.py")}
    assert len(lengths) > 40
    assert {path.name: length for path, length in lengths.items() if length > 300} == {}
