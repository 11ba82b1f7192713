"""The rules of the house, read from the source: who imports whom, what a window loads, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from semiseg import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE = REPOSITORY / "TransMedSeg" / "semiseg"
FILES = sorted(ENGINE.rglob("*.py"))
NAMES = [str(path.relative_to(ENGINE)) for path in FILES]

MAY_IMPORT = {
    "errors": set(),
    "protocol": set(),
    "job_options": {"errors"},
    "distributed": {"errors"},
    "follow": {"errors", "protocol"},
    "progress": set(),
    # Data knows DICOM only behind its file reader, inside the function.
    "data": {"errors", "dicom"},
    "metrics": {"errors", "data"},
    "dicom": {"errors", "data"},
    "phantom": {"errors", "data"},
    "networks": {"errors"},
    "losses": set(),
    "methods": {"errors", "data", "distributed", "networks", "losses"},
    "inference": {"errors", "data", "networks", "metrics"},
    "report": {"errors", "data", "protocol"},
    "training": {"errors", "data", "distributed", "networks", "methods", "inference", "metrics", "report"},
    "prepare": {"errors", "data"},
    "predict": {"errors", "data", "dicom", "distributed", "inference"},
    "evaluate": {"errors", "data", "metrics"},
    "export_seg": {"errors", "data", "dicom", "job_options"},
    "train_job": {"errors", "data", "job_options", "methods", "networks", "training"},
    "train_parts": {"errors", "data", "distributed", "methods", "prepare", "train_job"},
    "other_site": {"data", "job_options", "methods", "train_job"},
    "labeling_budget": {"job_options", "methods", "train_job", "training"},
    "measure": {"data", "distributed", "labeling_budget", "methods", "other_site", "protocol", "train_job", "train_parts", "training"},
    "best_on_test": {"errors", "data", "inference", "methods", "metrics"},
    "train": {"best_on_test", "protocol", "distributed", "data", "methods", "inference", "training", "predict", "evaluate", "labeling_budget", "other_site", "train_job", "train_parts"},
}  # fmt: skip
"""Arrows down only. What is not listed here (the doors: worker, cli, jobs, demo, describe) may import anything but each other's callers."""

DOORS = {"__main__", "cli", "demo", "describe", "jobs", "worker", "study"}
GUEST_PACKAGES = {"SimpleITK", "matplotlib", "pydicom", "highdicom", "h5py"}
"""The training machine may lack them: imported only inside the functions that need them."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def part(path: Path) -> str:
    return path.relative_to(ENGINE).with_suffix("").parts[0]


def own_imports(path: Path) -> set[str]:
    """Names of the engine's parts that a file imports, inside functions too."""
    here = path.relative_to(ENGINE).with_suffix("").parts
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            inner = node.module.split(".") if node.module else []
            parts = [*base, *inner]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.split(".")[0] == "semiseg" for name in names), f"{path}: engine files import each other relatively"
    return found - {"__version__"}


def outer_imports(path: Path, everywhere: bool) -> set[str]:
    """Other packages that a file imports: everywhere, or when it is loaded."""
    found: set[str] = set()
    for node in _nodes(tree(path), everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def _nodes(node: ast.AST, everywhere: bool):
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not everywhere and (isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_typing):
            continue
        yield child
        yield from _nodes(child, everywhere)


def python(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Who imports whom


def test_arrows_point_down():
    beyond = {}
    for name, path in zip(NAMES, FILES):
        if part(path) not in DOORS | {"__init__"}:
            assert part(path) in MAY_IMPORT, f"{name}: say in MAY_IMPORT where this part stands"
            beyond[name] = own_imports(path) - MAY_IMPORT[part(path)] - {part(path)}
    assert not {name: parts for name, parts in beyond.items() if parts}, "these must not be imported there"


def test_nobody_below_imports_a_door():
    callers = {name: own_imports(ENGINE / name) & DOORS for name in NAMES if part(ENGINE / name) not in DOORS}
    assert not {name: doors for name, doors in callers.items() if doors}


def test_the_table_itself_has_no_circle():
    """Apart from the file reader of data, which looks into DICOM folders."""
    table = {name: below - ({"dicom"} if name == "data" else set()) for name, below in MAY_IMPORT.items()}
    done: set[str] = set()
    while ready := [name for name in table if name not in done and table[name] <= done]:
        done |= set(ready)
    assert done == set(table), sorted(set(table) - done)


def test_data_sees_dicom_only_inside_functions():
    for path in (ENGINE / "data").glob("*.py"):
        for node in _nodes(tree(path), everywhere=False):
            assert not (isinstance(node, ast.ImportFrom) and node.level == 2 and (node.module or "").startswith("dicom")), path


def importers(packages: set[str], parts: set[str] | None = None, everywhere: bool = True) -> dict[str, set[str]]:
    """Files of some parts (all without) that import one of these packages."""
    found = {name: outer_imports(path, everywhere) & packages for name, path in zip(NAMES, FILES) if parts is None or part(path) in parts}
    return {name: packages for name, packages in found.items() if packages}


def test_the_engine_knows_no_slicer():
    assert not importers({"slicer", "qt", "vtk", "ctk", "PythonQt", "PySide6", "MRMLCorePython"})


def test_guests_are_imported_where_they_are_needed():
    assert not importers(GUEST_PACKAGES, everywhere=False)


def test_arrays_and_files_do_without_torch():
    assert not importers({"torch"}, {"metrics", "dicom", "report", "phantom"})


def test_networks_and_losses_see_tensors_only():
    allowed = {"torch", "math", "dataclasses", "typing", "collections", "__future__", "functools", "itertools"}
    for name, path in zip(NAMES, FILES):
        if part(path) in ("networks", "losses"):
            guest = {"monai"} if path.name == "monai_network.py" else set()
            assert outer_imports(path, everywhere=True) <= allowed | guest, name


def test_a_window_loads_nothing_but_the_standard_library(engine_environment):
    """The mailbox, the errors, the table of methods and the follower of a worker."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import semiseg.protocol, semiseg.errors, semiseg.methods, semiseg.follow, semiseg.job_options\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'semiseg'}))"
    )
    assert python(code, engine_environment).strip() == "[]"


def test_training_does_without_what_the_training_machine_lacks(engine_environment):
    missing = [*sorted(GUEST_PACKAGES - {"h5py"}), "monai", "nibabel", "nrrd", "skimage", "pandas", "PIL", "requests", "yaml"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "import semiseg.cli, semiseg.worker, semiseg.jobs, semiseg.train, semiseg.report, semiseg.describe\n"
        "from semiseg.methods import METHODS, load_method\n"
        "print(len([load_method(name) for name in METHODS]))"
    )
    assert int(python(code, engine_environment)) >= 5


# How it is written


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_ras_and_lps_are_turned_into_each_other_in_one_file_alone():
    """Two minus signs that one more place forgets or doubles put a mask on the wrong side of the patient."""
    signs = re.compile(r"-1(?:\.0)?, *-1(?:\.0)?, *1(?:\.0)?\b")
    assert [str(path.relative_to(ENGINE)) for path in FILES if signs.search(path.read_text(encoding="utf-8"))] == ["data/geometry.py"]


def test_no_file_is_longer_than_400_lines(record_property):
    lengths = {name: length(ENGINE / name) for name in NAMES}
    long = {name: count for name, count in lengths.items() if count > 300}
    print("over 300 lines:", ", ".join(f"{name} ({count})" for name, count in sorted(long.items(), key=lambda one: -one[1])) or "none")
    record_property("over_300_lines", long)
    assert not {name: count for name, count in lengths.items() if count > 400}


def test_no_function_has_50_lines():
    """Its docstring counts: what cannot be said and done on a page is two things."""
    long = [
        f"{path.relative_to(ENGINE)}: {node.name}, {node.end_lineno - node.lineno + 1} lines"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 >= 50
    ]
    assert not long, long


def test_a_file_has_a_docstring_and_runs_on_every_supported_python():
    for name, path in zip(NAMES, FILES):
        source = path.read_text(encoding="utf-8")
        module = ast.parse(source, filename=name, feature_version=(3, 10))
        assert ast.get_docstring(module), name
        has_annotations = any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in ast.walk(module))
        assert not has_annotations or "from __future__ import annotations" in source, name


def test_no_error_is_swallowed():
    for name, path in zip(NAMES, FILES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{name}:{node.lineno} catches everything"
                is_silent = all(isinstance(line, ast.Pass) for line in node.body)
                assert not (is_silent and ast.unparse(node.type) in ("Exception", "BaseException")), f"{name}:{node.lineno}"


def test_only_the_doors_print():
    def prints(path: Path) -> bool:
        return any(isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" for node in ast.walk(tree(path)))

    assert {name for name, path in zip(NAMES, FILES) if prints(path)} <= {"cli.py", "worker.py", "progress.py"}


def test_only_the_launchers_environment_is_read():
    """``follow`` hands its own on to the worker that it starts, and ``protocol`` looks there for what the starter said of the stop file."""
    readers = {name for name in NAMES if re.search(r"os\.(environ|getenv)", (ENGINE / name).read_text(encoding="utf-8"))}
    assert readers == {"distributed.py", "follow.py", "protocol.py"}


def test_no_file_is_named_after_nothing():
    assert not [name for name in NAMES if re.search(r"util|helper|common|manager|misc", name)]


def test_the_engine_names_no_place_of_one_computer():
    found = [name for name in NAMES if re.search(r"""["'](/home/|/tmp/|/root/|[A-Z]:\\)""", (ENGINE / name).read_text(encoding="utf-8"))]
    assert not found


def test_models_and_states_are_never_unpickled():
    for name in NAMES:
        for node in ast.walk(tree(ENGINE / name)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert safe.get("weights_only") == "True" or safe.get("allow_pickle") == "False", f"{name}:{node.lineno}"
        assert "pickle" not in outer_imports(ENGINE / name, everywhere=True) or "pickle.load" not in (ENGINE / name).read_text()


# Maps


def test_the_map_in_the_readme_has_every_part_of_the_engine():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    parts = {path.name + "/" for path in ENGINE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert not {one for one in parts if one not in text}
    block = re.search(r"```\nTransMedSeg/ .*?```", text, re.DOTALL)[0]
    engine = block[block.index("  semiseg/") : block.index("TransMedSegTrain/")]
    named = set(re.findall(r"[\w/]+\.py\b", engine))
    assert len(named) > 8 and not {name for name in named if not (ENGINE / name).exists()}


def test_the_changelog_and_the_citation_know_this_version():
    assert f"## [{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["walk.md", "add-a-method.md"])
def test_files_that_the_documents_name_exist(document):
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
    roots = [REPOSITORY, REPOSITORY / "TransMedSeg", ENGINE]
    named = {name for name in re.findall(r"`([\w/.-]+\.py|[\w/-]+/)`", text) if "x.py" not in name}
    assert named
    missing = {name for name in named if not any((root / name).exists() for root in roots) and not list(ENGINE.rglob(name))}
    assert not missing


def test_the_protocol_document_lists_every_event_and_verb():
    from semiseg.protocol import EVENT_KINDS

    text = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) >= set(EVENT_KINDS)


def test_the_messages_document_explains_every_code_and_no_other():
    """One by one, not as a range: a person searches for the code that a message shows."""
    sources = [*FILES, *(REPOSITORY / "TransMedSeg" / "TransMedSegLib").glob("*.py")]
    raised = {code for path in sources for code in re.findall(r'"(E\d{3})"', path.read_text(encoding="utf-8"))}
    text = (REPOSITORY / "docs" / "messages.md").read_text(encoding="utf-8")
    explained = [code for cell in re.findall(r"^\| (E\d.*?) \|", text, re.MULTILINE) for code in re.split(r",\s*", cell)]
    assert len(raised) > 70 and set(explained) == raised and len(explained) == len(raised)
