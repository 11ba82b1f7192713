#!/usr/bin/env bash
# Makes the environments of this checkout and runs every test: the engine's, then the Slicer modules' on slicer-core with an emulated Qt layer.
#
#   bash test.sh                 everything
#   bash test.sh engine          the engine alone (arguments after it go to pytest)
#   bash test.sh slicer          the Slicer modules alone
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

which=${1:-all}
[ $# -gt 0 ] && shift
skipped=() failed=0

if [ "$which" != slicer ]; then
    make_environment dicom,test || exit $?
    for tool in dciodvfy dcentvfy; do
        command -v "$tool" >/dev/null || skipped+=("the checks with $tool (Debian package dicom3tools)")
    done
    command -v storescp >/dev/null || skipped+=("the transfer over the network (Debian package dcmtk)")
    "$PYTHON" -m pip install --quiet --disable-pip-version-check dcmqi 2>/dev/null || skipped+=("the checks with dcmqi")
    OMP_NUM_THREADS=1 "$PYTHON" -m pytest Testing/engine "$@" || failed=1
fi

if [ "$which" != engine ]; then
    if make_slicer_environment; then
        QT_QPA_PLATFORM=offscreen VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow "$SLICER_PYTHON" -m pytest Testing/slicer "$@" || failed=1
    else
        skipped+=("the Slicer modules (needs Python 3.12 and the packages of Testing/slicer/requirements.txt)")
    fi
fi

for what in "${skipped[@]+"${skipped[@]}"}"; do echo "Skipped: $what."; done
exit $failed
