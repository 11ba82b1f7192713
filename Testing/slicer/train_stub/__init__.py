"""A package `semiseg` that plays an engine: the real protocol, and whatever behavior a test asks for."""

import json
import shutil
from pathlib import Path

_HERE = Path(__file__).parent
_REAL = _HERE.parent.parent.parent / "TransMedSeg" / "semiseg"


class StubEngine:
    """An engine folder for `EngineProcess`.

    Args:
        folder: Where the package is made.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        package = self.folder / "semiseg"
        package.mkdir(parents=True)
        for name in ("__init__.py", "protocol.py"):
            shutil.copy(_REAL / name, package / name)
        shutil.copy(_HERE / "main.py", package / "__main__.py")
        self.behave("finish")

    def behave(self, what, **values):
        """Says how the next runs go; see main.py. A check finishes, unless `check` names another behavior for it."""
        text = json.dumps({"what": what, **values})
        (self.folder / "behavior.json").write_text(text, encoding="utf-8")
