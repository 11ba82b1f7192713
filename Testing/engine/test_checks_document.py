"""docs/checks.md says which test holds what: every test it names exists, and every row names one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = (HERE.parents[1] / "docs" / "checks.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| must hold")]


@cache
def names_in(name: str) -> set[str]:
    """Names of the tests of a file as pytest writes them, without parameters."""
    if not (HERE / name).is_file():
        return set()
    module = ast.parse((HERE / name).read_text(encoding="utf-8"))
    functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    methods = {f"{kind.name}::{node.name}" for kind in module.body if isinstance(kind, ast.ClassDef) for node in kind.body if isinstance(node, ast.FunctionDef)}
    return {name for name in functions | methods if name.rpartition("::")[2].startswith("test_")}


def test_every_named_test_exists():
    named = re.findall(r"`(test_\w+\.py)::([\w:]+)`", TEXT)
    assert len(named) > 100
    assert not [f"{file}::{test}" for file, test in named if test not in names_in(file)]


def test_every_row_says_what_where_from_and_by_which_test():
    assert len(ROWS) > 100
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3 and all(cells), row
        assert re.fullmatch(r"(`test_\w+\.py::[\w:]+`(, )?)+", cells[2]), row
    demands = [row.split(" | ")[0] for row in ROWS]
    assert len(set(demands)) == len(demands), "each demand once"
