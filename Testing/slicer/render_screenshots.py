"""Pictures of both modules and of their views, for the README and docs/tutorial.md.

    SEMISEG_ENGINE_PYTHON=.venv/bin/python QT_QPA_PLATFORM=offscreen VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow \
        python Testing/slicer/render_screenshots.py [--work FOLDER] [--out FOLDER] [--only NAME]

Everything shown is real but the application: phantoms, a training of the real engine (picture_run.py), its model, masks and
numbers, drawn by Slicer's own views on slicer-core, in panels on an emulated Qt layer. The first call trains, about ten
minutes on a free core; with --work the training is kept, and later calls only draw.
"""

import argparse
import os
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "TransMedSeg"), str(REPOSITORY / "Testing" / "engine")]
PARTS = ("setup", "train", "segment", "export")


def main(work, out_dir, only):
    import picture_run

    python = Path(os.environ.get("SEMISEG_ENGINE_PYTHON") or REPOSITORY / ".venv" / "bin" / "python")
    if not python.exists():
        sys.exit("The pictures need a Python with the engine's packages: set SEMISEG_ENGINE_PYTHON, or run test.sh once.")
    picture_run.make(work, python)
    from bed import boot, views

    boot.start()
    views.open_slice_views()
    from picture_sheet import Sheet

    sheet = Sheet(out_dir)
    for part in [only] if only else PARTS:
        draw(part, sheet, Path(work).resolve(), python)
    boot.quit_application()


def draw(part, sheet, work, python):
    """Draws the pictures of one part, in an empty scene."""
    import slicer

    if part == "setup":
        from picture_setup import shoot
    elif part == "train":
        from picture_train import shoot
    elif part == "segment":
        from picture_segment import shoot
    else:
        from picture_export import shoot
    slicer.mrmlScene.Clear()
    shoot(sheet, work, python)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keeps phantoms and training here; by default they are made anew and removed")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Resources" / "Screenshots")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    with nullcontext(given.work) if given.work else tempfile.TemporaryDirectory() as folder:
        main(Path(folder), given.out, given.only)
