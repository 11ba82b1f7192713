#!/usr/bin/env bash
# Trains TransMedSeg on a small cohort of left-atrium phantoms, or on a folder of yours, and shows what the unlabeled volumes were worth.
#
#   bash demo.sh                 phantoms, about nine minutes on a CPU
#   bash demo.sh --quick         the same in about three minutes
#   bash demo.sh --data DIR      your own folder: LA h5 layout, NIfTI, NRRD, MHA or DICOM series
#   bash demo.sh --out DIR       where the results go (default: demo-results)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

here=$OLDPWD
out=demo-results data="" goal=demo
while [ $# -gt 0 ]; do
    case $1 in
        --quick) goal=quick ;;
        --data) data=$(cd "$here" && realpath -e "${2:?--data needs a folder}") || { echo "There is no folder $2." >&2; exit 2; }; shift ;;
        --out) out=$(cd "$here" && realpath -m "${2:?--out needs a folder}"); shift ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "Unknown option $1; see bash demo.sh --help." >&2; exit 2 ;;
    esac
    shift
done

make_environment dicom
exec "$PYTHON" -m semiseg demo "$out" --length "$goal" ${data:+--data "$data"}
