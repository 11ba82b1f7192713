"""What a Python runs to download one file, so that neither the window waits nor a half file is left.

    python FetchModel.py URL TARGET

Prints lines of JSON: {"done", "total"} in bytes as it goes, then {"sha256"}, or {"error", "kind"} with kind "network"
or "disk". Ending the process ends the download; the caller removes TARGET.
"""

import hashlib
import http.client
import json
import os
import sys
import time
import urllib.request

_CHUNK = 1 << 18
_TIMEOUT_S = 30
_SECONDS_BETWEEN_LINES = 0.2


def main(url, target):
    parent = os.getppid()  # PythonSlicer is a launcher: where it is ended, its child must notice
    try:
        answer = urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # the window lets only https, http and file through
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _failed(error, "network")
    with answer:
        total, done, digest, told = int(answer.headers.get("Content-Length") or 0), 0, hashlib.sha256(), 0.0
        try:
            stream = open(target, "wb")  # noqa: SIM115 (closed below; only its opening is tried here)
        except OSError as error:
            return _failed(error, "disk")
        with stream:
            while os.getppid() == parent:
                try:
                    chunk = answer.read1(_CHUNK)  # what is there, so that a slow line shows progress too
                except (OSError, http.client.HTTPException) as error:
                    return _failed(error, "network")
                if not chunk:
                    break
                try:
                    stream.write(chunk)
                except OSError as error:
                    return _failed(error, "disk")
                digest.update(chunk)
                done += len(chunk)
                if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                    told = time.monotonic()
                    _say(done=done, total=total)
    if os.getppid() != parent or (total and done != total):
        return _failed(f"{done} of {total} bytes came", "network")
    _say(done=done, total=total)
    _say(sha256=digest.hexdigest())
    return 0


def _failed(error, kind):
    _say(error=str(getattr(error, "reason", error)), kind=kind)
    return 1


def _say(**values):
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
