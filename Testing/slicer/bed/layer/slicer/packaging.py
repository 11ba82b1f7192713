"""Stand-in for slicer.packaging of Slicer 5.12 and later: the same functions, and nothing is ever installed.

What would have been installed is noted in `calls`, so that a test can compare it. `installed` overrides the versions
that `pip_check` sees, so that a test can play a computer with other packages.
"""

import importlib.metadata
from pathlib import Path

calls = []
"""(function name, requirements as text) for each install or uninstall asked for."""

installed = {}
"""Package name -> version, or None for "not installed". Names that are absent are looked up for real."""


def load_requirements(path):
    """Reads a requirements.txt and returns a list of packaging.requirements.Requirement."""
    from packaging.requirements import Requirement

    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def pip_check(requirement, _seen=None):
    """True where the requirement, or each one of a list, is satisfied."""
    if isinstance(requirement, (list, tuple)):
        return all(pip_check(one) for one in requirement)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name):
    if name in installed:
        return installed[name]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Asks and installs what is missing. In testing mode, which is the bed's, it returns without doing either."""
    import slicer

    if skip_in_testing and slicer.app.testingEnabled():
        return []
    missing = [requirement for requirement in requirements if not pip_check(requirement)]
    if not missing:
        return []
    listed = "\n".join(str(requirement) for requirement in missing)
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"{requester} needs to install:\n{listed}"):
        raise RuntimeError("User declined package installation")
    return pip_install(missing, constraints=constraints, skip_packages=skip_packages, requester=requester)


def pip_install(
    requirements,
    constraints=None,
    skip_packages=None,
    no_deps_requirements=None,
    blocking=True,
    show_progress=True,
    requester=None,
    parent=None,
    logCallback=None,
    completedCallback=None,
):
    """Notes the request. With blocking=False the callbacks are called from the event loop, as in Slicer."""
    return _noted("pip_install", requirements, blocking, logCallback, completedCallback)


def pip_uninstall(requirements, blocking=True, show_progress=True, logCallback=None, completedCallback=None, **_):
    """Notes the request, like pip_install."""
    return _noted("pip_uninstall", requirements, blocking, logCallback, completedCallback)


def isPipInstallInProgress():
    """True while an installation that does not block is running."""
    return _running > 0


_running = 0


def _noted(function, requirements, blocking, logCallback, completedCallback):
    import qt

    global _running
    texts = requirements.split() if isinstance(requirements, str) else [str(one) for one in requirements]
    calls.append((function, texts))
    if blocking:
        return []
    _running += 1

    def finish():
        global _running
        _running -= 1
        if logCallback:
            logCallback(f"{function} {' '.join(texts)}: nothing is installed in the test bed")
        if completedCallback:
            completedCallback(0)

    qt.QTimer.singleShot(0, finish)
    return None
