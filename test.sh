#!/usr/bin/env bash
# Makes the environments of this checkout and runs every test: the engine's, and the Slicer modules' on slicer-core with an emulated Qt layer.
#
#   bash test.sh                 everything, both parts side by side
#   bash test.sh engine          the engine alone (arguments after it go to pytest)
#   bash test.sh slicer          the Slicer modules alone
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

which=${1:-all}
[ $# -gt 0 ] && shift
skipped=() has_slicer=1

test_engine() {
    OMP_NUM_THREADS=1 "$PYTHON" -m pytest "$@" # all of Testing/engine where no file is named (pyproject.toml)
}

test_slicer() {
    QT_QPA_PLATFORM=offscreen VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow "$SLICER_PYTHON" -m pytest Testing/slicer -n 2 --dist loadfile "$@"
}

# Trainings that the Slicer tests start run in the engine's environment, so it is made for both parts.
make_environment dicom,test || exit $?
if [ "$which" != slicer ]; then
    for tool in dciodvfy dcentvfy; do
        command -v "$tool" >/dev/null || skipped+=("the checks with $tool (Debian package dicom3tools)")
    done
    command -v storescp >/dev/null || skipped+=("the transfer over the network (Debian package dcmtk)")
    "$PYTHON" -m pip install --quiet --disable-pip-version-check dcmqi 2>/dev/null || skipped+=("the checks with dcmqi")
fi
if [ "$which" != engine ] && ! make_slicer_environment; then
    has_slicer=0
    skipped+=("the Slicer modules (needs Python 3.12 and the packages of Testing/slicer/requirements.txt)")
fi

failed=0
if [ "$which" = engine ]; then
    test_engine "$@" || failed=1
elif [ "$which" = slicer ]; then
    [ $has_slicer = 0 ] || test_slicer "$@" || failed=1
elif [ $has_slicer = 0 ]; then
    test_engine || failed=1
else
    # The engine's tests keep one core busy, the two processes of the others, which wait much, the second. Those that start many processes come when the second is free.
    # What the engine's tests print is shown at the end.
    log=$(mktemp -d)
    trap 'kill %1 2>/dev/null; rm -rf "$log"' EXIT
    echo "The engine's tests run beside those of the Slicer modules; their output follows at the end."
    late=(Testing/engine/test_distributed.py Testing/engine/test_study_*.py)
    test_engine "${late[@]/#/--ignore=}" >"$log/first" 2>&1 &
    test_slicer || failed=1
    test_engine "${late[@]}" -n 2 --dist loadfile >"$log/late" 2>&1 || failed=1 # they wait for processes of their own
    wait %1 || failed=1
    echo "The engine's tests:"
    cat "$log/first"
    echo "Those of the engine that start many processes:"
    cat "$log/late"
fi

for what in "${skipped[@]+"${skipped[@]}"}"; do echo "Skipped: $what."; done
exit $failed
