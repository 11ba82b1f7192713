"""The extension's build files, the installed tree and the files on disk agree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import train_bed

REPOSITORY = Path(__file__).parent.parent.parent
STUB = Path(__file__).parent / "cmake_stub"
INSTALLED = Path("lib") / "Slicer-stub" / "qt-scripted-modules"


def cmake_value(name):
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.findall(rf'^set\({name} "([^"]*)"\)$', text, flags=re.MULTILINE)
    assert len(found) == 1, f"{name} must be set once, as one quoted string on one line"
    return found[0]


def s4ext():
    lines = (REPOSITORY / "TransMedSeg.s4ext").read_text(encoding="utf-8").splitlines()
    return dict((line.split(" ", 1) + [""])[:2] for line in lines if line and not line.startswith("#"))


def index_entry():
    return json.loads((REPOSITORY / "TransMedSeg.json").read_text(encoding="utf-8"))


def files_below(folder, *endings):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in endings and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The tree that `cmake --install` makes."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not on this computer")
    folder = tmp_path_factory.mktemp("build")
    for arguments in (
        ["-S", str(REPOSITORY), "-B", str(folder / "b"), f"-DSlicer_DIR={STUB}", "-DBUILD_TESTING=ON"],
        ["--install", str(folder / "b"), "--prefix", str(folder / "i")],
    ):
        done = subprocess.run([cmake, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "CMake Warning" not in done.stderr, done.stderr
    return folder


def test_extension_is_named_like_its_index_entry():
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\((\w+)\)$", text, flags=re.MULTILINE)[1] == "TransMedSeg"
    assert (REPOSITORY / "TransMedSeg.json").exists() and (REPOSITORY / "TransMedSeg.s4ext").exists()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("homepage", "EXTENSION_HOMEPAGE"),
        ("contributors", "EXTENSION_CONTRIBUTORS"),
        ("category", "EXTENSION_CATEGORY"),
        ("iconurl", "EXTENSION_ICONURL"),
        ("description", "EXTENSION_DESCRIPTION"),
        ("screenshoturls", "EXTENSION_SCREENSHOTURLS"),
        ("depends", "EXTENSION_DEPENDS"),
        ("build_subdirectory", "EXTENSION_BUILD_SUBDIRECTORY"),
    ],
)
def test_s4ext_says_what_cmake_says(key, name):
    assert s4ext()[key] == cmake_value(name)


def test_index_entry_says_what_cmake_says():
    entry = index_entry()
    assert entry["build_dependencies"] == cmake_value("EXTENSION_DEPENDS").split()
    assert entry["category"] == cmake_value("EXTENSION_CATEGORY")
    assert entry["build_subdirectory"] == cmake_value("EXTENSION_BUILD_SUBDIRECTORY")
    assert entry["scm_url"] == s4ext()["scmurl"] == cmake_value("EXTENSION_HOMEPAGE") + ".git"
    assert entry["scm_revision"] == s4ext()["scmrevision"]
    assert entry["scm_url"].split("/")[-1].startswith("Slicer")
    assert not (REPOSITORY / "TransMedSeg.json").read_bytes().count(b"\r")


@pytest.mark.parametrize("name", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_named_by_url_are_in_the_repository(name):
    for url in cmake_value(name).split():
        path = url.split("/main/", 1)[1]
        assert (REPOSITORY / path).is_file(), path
        assert (REPOSITORY / path).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md")))])
def test_links_and_pictures_of_the_pages_lead_somewhere(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)
    for target in targets:
        if not target.startswith(("https://", "#")):
            assert (REPOSITORY / page).parent.joinpath(target.split("#")[0]).exists(), target


def test_every_picture_is_shown_in_the_tutorial_or_the_readme():
    pages = [(REPOSITORY / page).read_text(encoding="utf-8") for page in ("README.md", "docs/tutorial.md")]
    pictures = {path.name for path in (REPOSITORY / "Resources" / "Screenshots").iterdir()}
    assert pictures == set(re.findall(r"Screenshots/([\w-]+\.png)", "\n".join(pages)))


def addresses(folder):
    """Where the URLs of the extension's files begin; the address of the schema is not ours."""
    texts = [(folder / name).read_text(encoding="utf-8") for name in ADDRESSED]
    return set(re.findall(r"(https://\S+?)/SlicerTransMedSeg\b", "\n".join(texts)))


ADDRESSED = ("CMakeLists.txt", "TransMedSeg.s4ext", "TransMedSeg.json")


def test_every_url_begins_with_the_same_address():
    assert len(addresses(REPOSITORY)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the command of docs/release.md is written for GNU sed")
def test_the_command_of_the_release_page_fills_the_address_in_everywhere(tmp_path):
    (command,) = re.findall(r"^OWNER=\S+; sed .*$", (REPOSITORY / "docs" / "release.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name in ADDRESSED:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(addresses(REPOSITORY).copy().pop(), "https://owner.invalid"), encoding="utf-8")
    subprocess.run(["bash", "-c", command.replace("https://github.com/your-name", "https://github.com/somebody")], cwd=tmp_path, check=True)
    assert addresses(tmp_path) == {"https://github.com/somebody"}


def test_everything_on_disk_is_installed(installed):
    found = files_below(installed / "i" / INSTALLED, ".py", ".ui", ".png", ".json", ".txt")
    wanted = set()
    for module in ("TransMedSeg", "TransMedSegTrain"):
        wanted |= files_below(REPOSITORY / module, ".py", ".ui", ".png", ".json", ".txt") - {"CMakeLists.txt"}
    # What pip leaves beside the sources of an editable installation is nobody's to install.
    wanted = {path for path in wanted if ".egg-info/" not in path}
    assert found == wanted
    assert "semiseg/protocol.py" in found and "TransMedSegLib/StartEngine.py" in found


def test_nothing_else_is_installed(installed):
    others = [path for path in (installed / "i").rglob("*") if path.is_file() and INSTALLED not in path.relative_to(installed / "i").parents]
    assert not [path for path in others if not path.relative_to(installed / "i").as_posix().startswith(INSTALLED.as_posix())]


def test_the_modules_files_do_not_meet_in_the_installed_folder():
    one, other = (files_below(REPOSITORY / module, ".py", ".ui", ".png", ".json", ".txt") for module in ("TransMedSeg", "TransMedSegTrain"))
    assert one & other == {"CMakeLists.txt"}


def test_only_modules_lie_beside_the_module_files():
    for module in ("TransMedSeg", "TransMedSegTrain"):
        assert [path.stem for path in (REPOSITORY / module).glob("*.py")] == [module]


def test_icons_have_the_modules_names_and_size():
    from PIL import Image

    for module in ("TransMedSeg", "TransMedSegTrain"):
        with Image.open(REPOSITORY / module / "Resources" / "Icons" / f"{module}.png") as icon:
            assert icon.size == (128, 128)


def test_ctest_knows_the_tests(installed):
    ctest = shutil.which("ctest")
    text = subprocess.run([ctest, "-N"], cwd=installed / "b", capture_output=True, text=True, check=True).stdout
    assert "py_TransMedSeg.py" in text and "py_TransMedSegTrain.py" in text and "EngineStartTest" in text


def test_the_engine_starts_from_the_installed_tree(installed, tmp_path):
    """As PythonSlicer would: no path of the repository, no user packages."""
    folder = installed / "i" / INSTALLED
    (tmp_path / "job.json").write_text('{"protocol": 1, "verb": "prepare", "options": {"no_such_option": 1}}')
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [train_bed.engine_python() or sys.executable, "-s", str(folder / "TransMedSegLib" / "StartEngine.py"), str(folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120, check=False)
    first = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0]) if (tmp_path / "events.jsonl").exists() else {}
    if not first:
        assert "No module named 'torch'" in done.stderr, done.stderr
        assert str(folder / "semiseg") in done.stderr and str(REPOSITORY) not in done.stderr
        pytest.skip("PyTorch is not in this Python; the engine of the installed tree was reached")
    assert Path(first["engine"]).resolve() == (folder / "semiseg").resolve()


def test_the_window_imports_neither_torch_nor_the_engine(installed):
    """Of the engine only the protocol; checked by looking at every import of the library."""
    pattern = re.compile(r"^\s*(?:from|import)\s+(semiseg\S*|torch\S*)(?:\s+import\s+(.+))?", flags=re.MULTILINE)
    allowed = {("semiseg", None), ("semiseg", "protocol"), ("semiseg", "__version__")}  # the package itself is a version only
    for path in [*(REPOSITORY / "TransMedSeg" / "TransMedSegLib").glob("*.py"), *REPOSITORY.glob("TransMedSeg*/TransMedSeg*.py")]:
        text = path.read_text(encoding="utf-8")
        if path.name == "EngineSetup.py":
            text = re.sub(r'PROBE = """.*?"""', "", text, flags=re.DOTALL)  # the text that a child process runs
        for module, names in pattern.findall(text):
            for name in (names or "").split(",") if names else [None]:
                name = name.split("#")[0].strip() if name else None
                ok = (module, name) in allowed or module == "semiseg.protocol"
                assert ok, f"{path.name}: {module} {name}"
