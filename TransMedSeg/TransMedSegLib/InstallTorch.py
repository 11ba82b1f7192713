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
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

COMMAND = "ltt"
"""As light-the-torch calls its own. ``python -m light_the_torch`` does the same, but its exit code is 0 also where pip has failed."""

RAW_PROGRESS_SINCE = (24, 1)


def main(planFile: str) -> None:
    plan = json.loads(Path(planFile).read_text(encoding="utf-8"))
    folder = str(Path(planFile).with_name("light-the-torch"))
    os.environ.update(plan["environment"])
    install = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    code = subprocess.run([*install, "--target", folder, *plan["tool"]], check=False).returncode
    if code:
        raise SystemExit(code)
    # First until all of it is found, then last: packages of this Python go before those that came with light-the-torch.
    sys.path[0] = folder  # the first entry is the folder of this file
    command = next(one for found in distributions(path=[folder]) for one in found.entry_points if one.name == COMMAND)
    run = command.load()
    import pip

    sys.path.append(sys.path.pop(0))
    sys.argv = [COMMAND, *plan["arguments"], *rawProgress(pip.__version__)]
    raise SystemExit(run())


def rawProgress(version: str) -> list[str]:
    """The option that makes a pip of this version say how far a download is; empty for one that does not know it."""
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    return ["--progress-bar", "raw"] if numbers >= RAW_PROGRESS_SINCE else []


if __name__ == "__main__":
    main(sys.argv[1])
