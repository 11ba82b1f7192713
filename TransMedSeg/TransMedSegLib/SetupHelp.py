"""The buttons beside the messages of the set-up page, and what they do."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from .BugReport import bugReport
from .EngineSetup import hasOwnPython, requirements
from .GpuUsers import GpuUsers
from .InstallOutcome import Outcome
from .Messages import message
from .StartDetails import detailsAction
from .TorchInstall import holdsUpSlicer

DOWNLOAD_PAGE = "https://download.slicer.org"
PYTORCH_EXTENSION = "PyTorch"


class SetupHelp:
    """Offers ways on.

    Args:
        page: The set-up page; it installs, restarts and asks again.
    """

    def __init__(self, page) -> None:
        self._page = page
        self._users = GpuUsers()

    def forCheck(self, code: str) -> tuple | None:
        """The button beside a line of the page; None where there is nothing to press."""
        reinstall = self._reinstallTorch
        buttons = {
            "E101": (_("Open download page"), lambda: qt.QDesktopServices.openUrl(qt.QUrl(DOWNLOAD_PAGE))),
            "E106": (_("Details"), lambda: self._show(_writingDetails())),
            "E202": (_("Check again"), self._page.check),
            "E203": (_("Reinstall with CUDA"), reinstall),
            "E204": (_("Install a newer PyTorch"), reinstall),
            "E208": (_("Who uses the GPU?"), lambda: self._users.ask(self._page.notice.say)),
            "E112": (_("Reinstall PyTorch"), reinstall),
        }
        isForeign = code in ("E112", "E203", "E204") and hasOwnPython()  # the packages of another Python are not ours to change
        return None if isForeign else buttons.get(code)

    def forOutcome(self, outcome: Outcome) -> tuple:
        """The buttons below an installation that did not end well."""
        fromFolder = (_("Install from folder…"), self._page.chooseFolder)
        log = (_("Show log"), self._page.showLog)
        again = (_("Try again"), self._page.again)
        copy = (_("Copy for bug report"), lambda: self._copy(outcome))
        repair = (_("Repair now"), lambda: self._page.repair(outcome.repair))
        return {
            "E102": ((_("Install and restart"), self._installExtension),),
            "E103": (again, fromFolder),
            "E104": ((_("How to add the certificate"), lambda: self._show(_certificateHelp())), fromFolder),
            "E105": (again, log),
            "E106": ((_("Details"), lambda: self._show(_writingDetails())), log),
            "E107": (log, again, copy),
            "E108": (repair,),
            "E111": (repair,) if outcome.repair else (),
            "E501": (detailsAction(), again),
        }.get(outcome.code, ())

    def _show(self, text: str) -> None:
        slicer.util.infoDisplay(text, windowTitle=_("Details"))

    def _copy(self, outcome: Outcome) -> None:
        facts = (f"{outcome.code} while packages were installed", ", ".join(requirements()))
        qt.QApplication.clipboard().setText(bugReport(self._page.log.toPlainText(), facts))
        self._page.notice.say(_("Copied."))

    def _installExtension(self) -> None:
        """Gets the extension that knows which PyTorch fits, and goes on after the restart that Slicer needs for it."""
        manager = slicer.app.extensionsManagerModel()
        manager.interactive = False  # the button was the question
        if manager.installExtensionFromServer(PYTORCH_EXTENSION, False):
            self._page.sayFailed(Outcome(text=_("Installed. Restart now? The module continues by itself."), needsRestart=True))
        else:
            self._page.sayFailed(Outcome("E103", message("E103")))

    def _reinstallTorch(self) -> None:
        """Replaces PyTorch by the build that fits this computer; its extension knows which that is."""
        question = _("Remove PyTorch and install the build that fits this computer?")
        if holdsUpSlicer(requirements()):
            question = _("{question} Slicer does not react for some minutes meanwhile.").format(question=question)
        if slicer.util.confirmOkCancelDisplay(question):
            self._page.replaceTorch()


def _certificateHelp() -> str:
    return _(
        "Ask IT for the certificate of your network as a file, for example hospital.pem. Set the environment variable PIP_CERT "
        "to the path of that file and start Slicer again.\n\nWithout internet: fetch the packages on another computer with the "
        "same system and use 'Install from folder…'."
    )


def _writingDetails() -> str:
    import sysconfig

    folder = sysconfig.get_paths()["purelib"]
    return _(
        "Packages go to {folder}, where this user may not write. Installers of Slicer offer to install for one user alone, "
        "which needs no rights of an administrator."
    ).format(folder=folder)
