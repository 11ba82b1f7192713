"""What the extension PyTorch would install, asked without installing it, so that another process can.

Its own `PyTorchUtilsLogic.installTorch` holds Slicer up for minutes: it gets light-the-torch, which finds the build for the
driver, and runs it. What it gets, and what it runs it with, is decided in two of its functions that are not public. Where they
are missing or answer otherwise than expected there is no plan, and installTorch itself has to be called.
"""

from __future__ import annotations

import os
import types
from dataclasses import dataclass, field

from .InstallSize import nameOf

TOOL = "light-the-torch"


@dataclass(frozen=True)
class TorchPlan:
    """What `InstallTorch.py` is to do.

    Attributes:
        tool: What pip is asked for to get light-the-torch.
        arguments: For light-the-torch: "install", the packages and options of pip.
        environment: Variables that the extension sets for it.
    """

    tool: list[str]
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def torchPlan(extension, requirement: str) -> TorchPlan | None:
    """Asks the extension.

    Args:
        extension: The module PyTorchUtils.
        requirement: Of PyTorch, as "torch>=2.4".

    Returns:
        The plan; None where this version of the extension cannot be asked.
    """
    try:
        logic = extension.PyTorchUtilsLogic
        arguments = logic._getPipInstallArguments(torchVersionRequirement=requirement.removeprefix("torch"))
        tool, environment = _askedOf(logic._installLightTheTorch)
    except Exception:  # another version may raise whatever it likes: it can still be called
        return None
    isKnown = _areWords(arguments) and arguments[:1] == ["install"] and requirement in arguments
    if not isKnown or not any(TOOL in one.replace("_", "-") for one in tool):
        return None
    return TorchPlan(tool, list(arguments), environment)


def _areWords(values) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(one, str) for one in values)


class _Notes:
    """Plays `slicer` for a function of the extension: pip is asked in vain, and nothing else is there."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.environment: dict[str, str] = {}
        self.util = self.packaging = types.SimpleNamespace(pip_install=self._note)
        self._before = dict(os.environ)

    def _note(self, requirements, **_options) -> None:
        self.words += requirements.split() if isinstance(requirements, str) else map(str, requirements)
        self.environment.update({name: value for name, value in os.environ.items() if self._before.get(name) != value})

    def forgetEnvironment(self) -> None:
        """Leaves the variables as they were."""
        for name in set(os.environ) - set(self._before):
            del os.environ[name]
        os.environ.update(self._before)


def _askedOf(function) -> tuple[list[str], dict[str, str]]:
    """What a function asks pip for, and the variables it has set by then. It runs with a `slicer` of its own: nothing is installed."""
    notes = _Notes()
    try:
        names = {**function.__globals__, "slicer": notes}
        types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)()
    finally:
        notes.forgetEnvironment()
    return notes.words, notes.environment


def holdsUpSlicer(requirements: list[str]) -> bool:
    """Whether PyTorch is among them and its extension can only be called, which Slicer has to wait for."""
    torch = next((one for one in requirements if nameOf(one) == "torch"), "")
    if not torch:
        return False
    try:
        import PyTorchUtils
    except ImportError:
        return False  # which is said when the installation begins
    return torchPlan(PyTorchUtils, torch) is None
