# Sourced by demo.sh and test.sh: makes the virtual environment .venv of this checkout and sets PYTHON to its interpreter.
# Usage: make_environment EXTRAS   (such as "dicom,test")

find_python() {
    for candidate in "${SEMISEG_PYTHON:-}" python3.11 python3.12 python3.10 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.10, 3.11 or 3.12 with venv is needed; none was found. Install one, or set SEMISEG_PYTHON to it." >&2
    return 2
}

make_environment() {
    local extras=$1 base stamp wanted
    stamp=.venv/semiseg-installed
    wanted="$extras $(cat pyproject.toml constraints.txt TransMedSeg/Resources/requirements.txt | cksum)"
    PYTHON=.venv/bin/python
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$PYTHON" -c 'import semiseg' 2>/dev/null; then
        return
    fi
    base=$(find_python) || return 2
    echo "Making the environment .venv with $("$base" --version 2>&1) (a few minutes the first time) ..." >&2
    "$base" -m venv .venv || return 1
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]" || {
        echo "The packages could not be installed; the lines above say why. Behind a hospital proxy, see docs/install.md." >&2
        return 1
    }
    echo "$wanted" >"$stamp"
}

# The test bed of the Slicer modules has an environment of its own: Slicer 5.10 and 5.12 run Python 3.12.
make_slicer_environment() {
    local base="" candidate stamp wanted
    SLICER_PYTHON=.venv-slicer/bin/python
    stamp=.venv-slicer/installed
    wanted=$(cksum <Testing/slicer/requirements.txt)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    for candidate in "${SEMISEG_PYTHON312:-}" python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python; do
        # A launcher may be on the path without the Python behind it, so ask it.
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; raise SystemExit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1; then
            base=$candidate
            break
        fi
    done
    [ -n "$base" ] || return 1
    echo "Making the environment .venv-slicer (a few minutes the first time) ..." >&2
    "$base" -m venv .venv-slicer &&
        "$SLICER_PYTHON" -m pip install --quiet --disable-pip-version-check --requirement Testing/slicer/requirements.txt &&
        echo "$wanted" >"$stamp"
}
