"""What PythonSlicer runs to install PyTorch with light-the-torch, so that the window need not wait.

    python InstallTorch.py PLAN

PLAN is a JSON file (see `TorchInstall.TorchPlan`) in a folder that this installation has to itself. light-the-torch goes into a
folder beside the plan, with the pip that it asks for: it takes pip 26.0 at most, Slicer 5.12 ships 26.1, and Slicer's is left as
it is. The exit code is pip's.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

RAW_PROGRESS_SINCE = (24, 1)


def main(planFile: str) -> None:
    plan = json.loads(Path(planFile).read_text(encoding="utf-8"))
    folder = str(Path(planFile).with_name("light-the-torch"))
    os.environ.update(plan["environment"])
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--target", folder, *plan["tool"]]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)
    # Only while both are found: pip is to look at the packages of this Python, not at its own in that folder.
    sys.path[0] = folder  # the first entry is the folder of this file
    import light_the_torch  # noqa: F401
    import pip

    del sys.path[0]
    sys.argv = ["ltt", *plan["arguments"], *rawProgress(pip.__version__)]
    runpy.run_module("light_the_torch", run_name="__main__", alter_sys=True)


def rawProgress(version: str) -> list[str]:
    """The option that makes a pip of this version say how far a download is; empty for one that does not know it."""
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    return ["--progress-bar", "raw"] if numbers >= RAW_PROGRESS_SINCE else []


if __name__ == "__main__":
    main(sys.argv[1])
