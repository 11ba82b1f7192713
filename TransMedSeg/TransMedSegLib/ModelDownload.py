"""Downloads a model when the user asks for it, in a process of its own: with progress, cancel and a look at the hash."""

import json
from pathlib import Path
from urllib.parse import urlparse

import qt
from slicer.i18n import tr as _

from . import ModelList
from .Computer import freeDiskGb
from .EngineProcess import enginePython
from .Messages import message
from .ModelFile import ModelRefused
from .ProcessTree import endTree

SCHEMES = ("https", "http", "file")


class ModelDownload:
    """One download. Its callbacks come from the event loop.

    Args:
        onProgress: Called with the bytes that are there and the bytes in all; 0 where the server does not tell.
        onDone: Called once with the model file in the models folder.
        onFailed: Called once with a code and a text, both "" after a cancel.
    """

    def __init__(self, onProgress, onDone, onFailed):
        self._onProgress, self._onDone, self._onFailed = onProgress, onDone, onFailed
        self._process = self._retired = None
        self._url = self._sha256 = ""
        self._answer = {}
        self._rest = b""
        self._part = None
        self._isCancelled = False

    @property
    def isRunning(self):
        return self._process is not None

    def start(self, url, sha256=""):
        """Begins. Where the hash is not given, that inside of an archive is all there is to compare with.

        Raises:
            OSError: The models folder cannot be written.
        """
        self._url, self._sha256, self._isCancelled = url, sha256.strip().lower(), False
        folder = ModelList.modelsFolder()
        folder.mkdir(parents=True, exist_ok=True)
        self._part = folder / f".download-{id(self):x}.part"
        self._process = qt.QProcess()
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: self._onFinished())
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        program = Path(__file__).with_name("FetchModel.py")
        self._process.start(enginePython(), [str(program), url, str(self._part)])

    def cancel(self):
        """Ends the download; what came so far is removed."""
        if self._process is not None:
            self._isCancelled = True
            endTree(self._process.processId())

    def discard(self):
        """The panel goes away: ends the download and waits for the end, so that nothing is left behind."""
        self._onProgress = self._onDone = self._onFailed = lambda *_: None
        if self._process is not None:
            process = self._process
            self.cancel()
            process.waitForFinished(2000)
            self._clean()

    def _onOutput(self):
        *lines, self._rest = (self._rest + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            try:
                self._answer.update(json.loads(line))
            except ValueError:
                continue  # a line of something else, such as a warning of Python
            if "sha256" not in self._answer and "done" in self._answer:
                self._onProgress(self._answer["done"], self._answer["total"])

    def _onError(self, error):
        if int(error) == int(qt.QProcess.FailedToStart):
            reason = self._process.errorString()
            self._clean()
            self._onFailed("E501", message("E501", reason=reason))

    def _onFinished(self):
        if self._process is None:
            return
        self._onOutput()
        answer, self._answer = self._answer, {}
        try:
            self._judge(answer)
        finally:
            self._clean()

    def _judge(self, answer):
        """Tells the owner how it ended."""
        folder = ModelList.modelsFolder()
        found = answer.get("sha256")
        if self._isCancelled:
            self._onFailed("", "")
        elif not found and answer.get("kind") == "disk":
            needed = round(max(answer.get("total", 0) / 2**30, 0.1), 1)
            self._onFailed("E105", message("E105", needed_gb=needed, free_gb=freeDiskGb(folder), folder=folder))
        elif not found:
            self._onFailed("E401", message("E401", link=self._url))
        elif self._sha256 and found != self._sha256:
            self._refuseDamaged()
        else:
            self._add()

    def _add(self):
        try:
            path = ModelList.add(self._part, url=self._url)
        except ModelRefused as refusal:
            if refusal.code == "E402":
                self._refuseDamaged()
            else:
                self._onFailed(refusal.code, str(refusal))
        except OSError as error:
            self._onFailed("", str(error))
        else:
            self._onDone(path)

    def _refuseDamaged(self):
        """The file is gone before it is said to be; one of a file address is only a copy of the user's own."""
        text = message("E402")
        try:
            self._part.unlink(missing_ok=True)
            if urlparse(self._url).scheme != "file":
                text = _("The downloaded file is damaged or was changed (its hash does not match). It was deleted.")
        except OSError:  # a virus scanner may hold it
            text = _("{text} It could not be deleted: {file}").format(text=text, file=self._part)
            self._part = None
        self._onFailed("E402", text)

    def _clean(self):
        """Lets go of the process inside its own signal: the object must live until the signal is over."""
        self._retired, self._process = self._process, None
        self._rest = b""
        if self._part is not None:
            self._part.unlink(missing_ok=True)


def urlProblem(url, sha256):
    """What is wrong with an address and a hash that the user typed: "url", "hash", or ""."""
    parts = urlparse(url.strip())
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.scheme == "file"):
        return "url"
    digits = sha256.strip().lower()
    return "hash" if digits and (len(digits) != 64 or set(digits) - set("0123456789abcdef")) else ""
