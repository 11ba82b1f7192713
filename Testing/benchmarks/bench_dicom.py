"""DICOM in and out: series to volume against SimpleITK's reader, and a DICOM-SEG of full size written and verified.

    PYTHONPATH=TransMedSeg python Testing/benchmarks/bench_dicom.py [--rounds 9] [--folder DIR]

Prints Markdown tables. The two readers take turns within one run, so a busy machine slows both alike; the ratios are the
medians over the rounds, of the time that passed and of processor time, which other programs disturb less. The export runs in a process of its own, whose own largest memory is reported; dcmqi, where
installed, is a child of it. Headers carry 150 private attributes and one of 60 kB, as scanners write them. Without
--folder the series is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "TransMedSeg"), str(ROOT / "Testing" / "engine")]

import synthetic_masks
import synthetic_series

from semiseg.dicom.series import open_series, read_series

SHAPE, SPACING_MM = (88, 640, 640), (1.25, 0.625, 0.625)
CHILD = """
import json, pathlib, re, sys, time
start = time.perf_counter()
from semiseg.export_seg import ExportOptions, export_seg
series, mask, output, kind = sys.argv[1:]
result = export_seg(series, mask, output, ExportOptions(kind=kind))
seconds = time.perf_counter() - start
status = pathlib.Path("/proc/self/status")  # getrusage would count the memory of the process that started this one
peak = re.search("VmHWM:\\s+(\\d+)", status.read_text()) if status.is_file() else None
print(json.dumps({"seconds": seconds, "peak_mib": peak and int(peak[1]) / 1024, "readers": result.readers,
                  "bytes": result.path.stat().st_size}))
"""


def make_series(folder: Path, syntax: str) -> Path:
    """88 slices of 640 x 640, once."""
    if not folder.is_dir():
        builder = synthetic_series.SeriesBuilder(folder, SHAPE, SPACING_MM, syntax=syntax)
        datasets = builder.datasets()
        for dataset in datasets:
            block = dataset.private_block(0x0029, "SYNTHETIC HEADER", create=True)
            for element in range(150):
                block.add_new(element, "LO", f"value {element}")
            block.add_new(0xF0, "OB", bytes(60_000))
        builder.write(datasets)
    return folder


def seconds_of(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and of processor time."""
    start, computing = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - computing


def compare_readers(folder: Path, rounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median seconds of ours and SimpleITK's, and the median ratio of neighbors: passed, and of processor time."""
    import SimpleITK as sitk

    def theirs() -> None:
        sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))

    volume = read_series(folder)[0]
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert np.array_equal(sitk.GetArrayViewFromImage(image), volume.array), "the two readers disagree"
    del volume, image
    ours_s: list[tuple[float, float]] = []
    theirs_s: list[tuple[float, float]] = []
    for index in range(rounds):
        pair = [(ours_s, lambda: read_series(folder)), (theirs_s, theirs)]
        for times, function in pair if index % 2 else pair[::-1]:
            times.append(seconds_of(function))
    ratio = np.array(theirs_s) / np.array(ours_s)
    return np.median(ours_s, axis=0), np.median(theirs_s, axis=0), np.median(ratio, axis=0)


def export(folder: Path, mask: Path, output: Path, kind: str) -> dict:
    """One export in a fresh process, imports included."""
    command = [sys.executable, "-c", CHILD, str(folder), str(mask), str(output), kind]
    environment = {"PYTHONPATH": str(ROOT / "TransMedSeg"), "PATH": str(Path(sys.executable).parent)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.folder or Path(temporary)
        print("| series of 88 x 640 x 640 | ours, s (CPU) | SimpleITK, s (CPU) | SimpleITK / ours (CPU) |\n|---|---|---|---|")
        for syntax in ("explicit", "jpegls"):
            folder = make_series(root / syntax, syntax)
            cells = [f"{passed:.2f} ({cpu:.2f})" for passed, cpu in compare_readers(folder, args.rounds)]
            print(f"| {syntax} | {' | '.join(cells)} |")
        folder = root / "explicit"
        affine = open_series(folder).geometry.affine
        chamber, wall = synthetic_series.chamber_mask(SHAPE), synthetic_series.wall_mask(SHAPE)
        one = synthetic_masks.write_seg_nrrd(root / "one.seg.nrrd", [chamber], affine, [synthetic_masks.left_atrium()])
        facts = [synthetic_masks.left_atrium(), synthetic_masks.scar(value=1, layer=1)]
        two = synthetic_masks.write_seg_nrrd(root / "two.seg.nrrd", [chamber, wall], affine, facts)
        print("\n| export, imports included | s | peak MiB | file MB | read back by |\n|---|---|---|---|---|")
        for name, mask, kind in [("one segment, BINARY", one, "BINARY"), ("two overlapping, BINARY", two, "BINARY"),
                                 ("one segment, LABELMAP RLE", one, "LABELMAP")]:  # fmt: skip
            runs = [export(folder, mask, root / "out.dcm", kind) for _ in range(3)]
            middle = sorted(runs, key=lambda run: run["seconds"])[1]
            peak = "–" if middle["peak_mib"] is None else f"{middle['peak_mib']:.0f}"
            readers = " + ".join(middle["readers"])
            print(f"| {name} | {middle['seconds']:.2f} | {peak} | {middle['bytes'] / 1e6:.2f} | {readers} |")


if __name__ == "__main__":
    main()
