"""Realistic synthetic DICOM series of a left atrium, sound ones and one for every fault that a reader must refuse.

The grid is oblique and anisotropic, the three sizes differ, and the mask has no symmetry, so a swapped axis, a flip or
a reversed order cannot pass unnoticed. Every series is de-identified in the way of public collections.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"
SHAPE = (24, 64, 56)
SPACING_MM = (2.5, 0.9375, 0.703)


def oblique_direction(angles_deg: tuple[float, float, float] = (20.0, -35.0, 15.0)) -> np.ndarray:
    """(3, 3) LPS directions of (slice, row, column) axes, right-handed in (column, row, slice) as ITK orders them."""
    a, b, c = np.radians(angles_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation = about_z @ about_y @ about_x
    return rotation[:, [2, 1, 0]]


def phantom(shape: tuple[int, int, int] = SHAPE, seed: int = 7) -> np.ndarray:
    """(slice, row, column) int16 image: noise, a bright chamber and one hot corner."""
    noise = np.random.default_rng(seed).normal(120, 20, shape)
    noise[chamber_mask(shape) > 0] += 300
    noise[0, :3, :3] = 900
    return noise.clip(0, 1023).astype(np.int16)


def chamber_mask(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(slice, row, column) uint8 left atrium without any symmetry, empty in the outer slices."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij", sparse=True)
    body = (k / 0.55) ** 2 + ((j - 0.15) / 0.45) ** 2 + ((i + 0.2) / 0.35) ** 2 < 1
    vein = (k > 0.05) & (k < 0.45) & (((j + 0.3) / 0.12) ** 2 + ((i - 0.3) / 0.2) ** 2 < 1)
    return (body | vein).astype(np.uint8)


def wall_mask(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(slice, row, column) uint8 region that overlaps the chamber."""
    return np.roll(chamber_mask(shape), (1, 3, -4), axis=(0, 1, 2))


def veins_mask(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(slice, row, column) uint8 region apart from the chamber."""
    return (np.roll(chamber_mask(shape), 5, axis=2) & (1 - chamber_mask(shape))).astype(np.uint8)


class SeriesBuilder:
    """Writes one classic MR series; options put the faults in.

    Args:
        folder: Where the files go; made if need be.
        shape: (slice, row, column).
        direction: (3, 3) LPS directions of the slice, row and column axes.
        origin_mm: Position of the first voxel of the slice with the lowest position.
        syntax: Transfer syntax; ``"jpegls"``, ``"rle"``, ``"j2k"``, ``"deflated"`` or ``"implicit"``.
        rescale: Slope and intercept, written only when given (MR has none by itself).
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int] = SHAPE,
        spacing_mm: tuple[float, float, float] = SPACING_MM,
        direction: np.ndarray | None = None,
        origin_mm: tuple[float, float, float] = (-81.25, -103.4, 42.75),
        *,
        syntax: str = "explicit",
        rescale: tuple[float, float] | None = None,
        charset: str = "ISO_IR 100",
        patient_name: str = "Anonymous^Case",
        seed: int = 7,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spacing_mm = spacing_mm
        self.direction = oblique_direction() if direction is None else direction
        self.origin_mm = np.array(origin_mm, dtype=float)
        self.syntax = syntax
        self.rescale = rescale
        self.charset = charset
        self.patient_name = patient_name
        self.pixels = phantom(shape, seed)
        self.study_uid, self.series_uid, self.frame_uid = generate_uid(), generate_uid(), generate_uid()

    def position_mm(self, index: float) -> np.ndarray:
        return self.origin_mm + index * self.spacing_mm[0] * self.direction[:, 0]

    def dataset(self, index: int) -> Dataset:
        """One valid MR image (PS3.3 A.4): the slice ``index`` of the volume."""
        ds = patient_and_study(self)
        ds.SOPClassUID, ds.SOPInstanceUID = MR_IMAGE, generate_uid()
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = ["GR", "IR"], "SS", "CG"
        ds.MRAcquisitionType, ds.RepetitionTime, ds.EchoTime, ds.InversionTime = "3D", "5.4", "2.5", "270"
        ds.EchoTrainLength, ds.FlipAngle, ds.MagneticFieldStrength = 1, "20", "1.5"
        ds.SliceThickness, ds.SpacingBetweenSlices = ds_text(self.spacing_mm[0]), ds_text(self.spacing_mm[0])
        ds.PatientPosition, ds.InstanceNumber = "HFS", index + 1
        ds.ImagePositionPatient = [ds_text(mm) for mm in self.position_mm(index)]
        ds.ImageOrientationPatient = [ds_text(c) for c in (*self.direction[:, 2], *self.direction[:, 1])]
        ds.PixelSpacing = [ds_text(mm) for mm in self.spacing_mm[1:]]
        if self.rescale is not None:
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = *map(ds_text, self.rescale), "US"
        set_pixels(ds, self.pixels[index])
        return ds

    def datasets(self) -> list[Dataset]:
        return [self.dataset(index) for index in range(len(self.pixels))]

    def write(self, datasets: list[Dataset] | None = None, names: list[str] | None = None) -> Path:
        """Saves the images and returns the folder."""
        datasets = self.datasets() if datasets is None else datasets
        for index, ds in enumerate(datasets):
            name = names[index] if names else f"IM{index + 1:05d}.dcm"
            save(ds, self.folder / name, self.syntax)
        return self.folder


def patient_and_study(builder: SeriesBuilder) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = builder.charset
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = builder.patient_name, "LA-0001", "", "O"
    ds.PatientAge, ds.PatientWeight = "061Y", "74"
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "Synthetic; no patient"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = builder.study_uid, builder.series_uid
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = builder.frame_uid, ""
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20240312"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "101500"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription, ds.SeriesDescription, ds.SeriesNumber = "Cardiac MR", "LGE left atrium 3D", 7
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "MR", "Synthetic", "Phantom"
    ds.AcquisitionNumber, ds.DeviceSerialNumber, ds.SoftwareVersions = 1, "1", "1"
    ds.ProtocolName, ds.BodyPartExamined = "LGE 3D", "HEART"
    return ds


def set_pixels(ds: Dataset, pixels: np.ndarray) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = "400", "800"
    ds.PixelData = pixels.astype("<i2").tobytes()


def ds_text(value: float) -> str:
    """The longest decimal string DICOM allows (16 characters)."""
    return pydicom.valuerep.format_number_as_ds(float(value))


def save(ds: Dataset, path: Path, syntax: str = "explicit") -> None:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == "implicit":
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    elif syntax == "deflated":
        ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    elif syntax == "big":
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
        ds["PixelData"].VR = "OW"
    elif syntax != "explicit":
        known = {"jpegls": "JPEGLSLossless", "rle": "RLELossless", "j2k": "JPEG2000Lossless"}
        uid = ds.SOPInstanceUID
        ds.compress(getattr(pydicom.uid, known[syntax]))
        ds.SOPInstanceUID = uid  # lossless: the same image
    ds.save_as(path, enforce_file_format=True)


# ---------------------------------------------------------------------------------------------------- sound series


def base(folder: Path, **options) -> Path:
    return SeriesBuilder(folder, **options).write()


def reversed_numbers(folder: Path) -> Path:
    """Instance numbers run against the positions."""
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()[::-1]
    for number, ds in enumerate(datasets):
        ds.InstanceNumber = number + 1
    return builder.write(datasets)


def shuffled(folder: Path) -> Path:
    """File names in no order, in two subfolders that use the same names."""
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()
    order = np.random.default_rng(3).permutation(len(datasets))
    names = [f"{'ab'[place % 2]}/I{place // 2:03d}" for place in order]
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    return builder.write(datasets, names)


def one_slice(folder: Path) -> Path:
    builder = SeriesBuilder(folder)
    return builder.write(builder.datasets()[11:12])


def utf8(folder: Path) -> Path:
    return SeriesBuilder(folder, charset="ISO_IR 192", patient_name="王^小東=王^小東").write()


def latin1(folder: Path) -> Path:
    return SeriesBuilder(folder, charset="ISO_IR 100", patient_name="Müller^Jörg").write()


def enhanced(folder: Path, *, phases: int = 1, slope: float = 1.0, is_shared: bool = True) -> Path:
    """One enhanced MR file whose frames are stored in shuffled order.

    Args:
        phases: Several make it 4D.
        is_shared: Orientation and spacing are in the shared groups; else each frame repeats them.
    """
    builder = SeriesBuilder(folder)
    number = len(builder.pixels)
    order = list(np.random.default_rng(5).permutation(number)) * phases
    ds = patient_and_study(builder)
    ds.SOPClassUID, ds.SOPInstanceUID = ENHANCED_MR_IMAGE, generate_uid()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(order)
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [ds_text(mm) for mm in builder.spacing_mm[1:]]
    shared.PixelMeasuresSequence[0].SliceThickness = ds_text(builder.spacing_mm[0])
    shared.PlaneOrientationSequence = [Dataset()]
    cosines = [ds_text(c) for c in (*builder.direction[:, 2], *builder.direction[:, 1])]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = cosines
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place, index in enumerate(order):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [ds_text(mm) for mm in builder.position_mm(int(index))]
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].TemporalPositionIndex = place // number + 1
        frame.FrameContentSequence[0].DimensionIndexValues = [int(index) + 1]
        frame.PixelValueTransformationSequence = [Dataset()]
        transform = frame.PixelValueTransformationSequence[0]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = ds_text(slope), "0", "US"
        frames.append(frame)
    if not is_shared:
        for frame in frames:
            frame.PixelMeasuresSequence = deepcopy(shared.PixelMeasuresSequence)
            frame.PlaneOrientationSequence = deepcopy(shared.PlaneOrientationSequence)
        ds.SharedFunctionalGroupsSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence = frames
    set_pixels(ds, builder.pixels[order])
    del ds.WindowCenter, ds.WindowWidth
    builder.write([ds], ["enhanced.dcm"])
    return builder.folder


def enhanced_one_by_one(folder: Path) -> Path:
    """Enhanced MR files of one frame each: a volume, but not a source that highdicom takes."""
    (path,) = enhanced(folder).iterdir()
    whole = pydicom.dcmread(path)
    path.unlink()
    pixels = whole.pixel_array
    for index, frame in enumerate(whole.PerFrameFunctionalGroupsSequence):
        ds = deepcopy(whole)
        ds.SOPInstanceUID, ds.InstanceNumber, ds.NumberOfFrames = generate_uid(), index + 1, 1
        ds.PerFrameFunctionalGroupsSequence = [frame]
        ds.PixelData = pixels[index].astype("<i2").tobytes()
        save(ds, folder / f"IM{index + 1:05d}.dcm")
    return folder


# --------------------------------------------------------------------------------------------------- faulty series


def missing(folder: Path) -> Path:
    """Three slices lost, two of them together."""
    builder = SeriesBuilder(folder)
    return builder.write([ds for index, ds in enumerate(builder.datasets()) if index not in (5, 6, 14)])


def duplicate(folder: Path) -> Path:
    """Two slices twice, under new UIDs."""
    builder = SeriesBuilder(folder)
    return builder.write(builder.datasets() + [builder.dataset(4), builder.dataset(9)])


def temporal2(folder: Path) -> Path:
    """Two time points under one series UID."""
    builder = SeriesBuilder(folder)
    datasets = builder.datasets() + builder.datasets()
    for place, ds in enumerate(datasets):
        ds.TriggerTime = "70" if place < len(builder.pixels) else "420"
    return builder.write(datasets)


def tilted(folder: Path, angle_deg: float = 12.0) -> Path:
    """The stack leans against its slices, as with a tilted gantry."""
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()
    lean = np.tan(np.radians(angle_deg)) * builder.spacing_mm[0] * builder.direction[:, 1]
    for index, ds in enumerate(datasets):
        ds.ImagePositionPatient = [ds_text(mm) for mm in builder.position_mm(index) + index * lean]
    return builder.write(datasets)


def nonuniform(folder: Path) -> Path:
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()
    for index, ds in enumerate(datasets):
        ds.ImagePositionPatient = [ds_text(mm) for mm in builder.position_mm(index + 0.3 * np.sin(index))]
    return builder.write(datasets)


def two_series(folder: Path) -> Path:
    base(folder / "first")
    return SeriesBuilder(folder / "second", seed=8).write().parent


def localizer(folder: Path) -> Path:
    """A scout of another orientation and one of another size under the series UID."""
    builder = SeriesBuilder(folder)
    scout = builder.dataset(0)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    return builder.write([scout, *builder.datasets()])


def other_size(folder: Path) -> Path:
    builder = SeriesBuilder(folder)
    odd = builder.dataset(0)
    set_pixels(odd, builder.pixels[0, :32, :32])
    return builder.write([odd, *builder.datasets()[1:]])


def no_frame_of_reference(folder: Path) -> Path:
    return _without(folder, "FrameOfReferenceUID")


def no_orientation(folder: Path) -> Path:
    return _without(folder, "ImageOrientationPatient")


def no_spacing(folder: Path) -> Path:
    return _without(folder, "PixelSpacing")


def truncated(folder: Path) -> Path:
    return _cut(base(folder), 0.5)


def truncated_header(folder: Path) -> Path:
    return _cut(base(folder), 0.05)


def truncated_jpegls(folder: Path) -> Path:
    return _cut(base(folder, syntax="jpegls"), 0.7)


def truncated_deflated(folder: Path) -> Path:
    return _cut(base(folder, syntax="deflated"), 0.7)


def text_among_images(folder: Path) -> Path:
    base(folder)
    (folder / "IM00025.dcm").write_text("version https://example.invalid/spec/v1\nsize 8544\n")
    return folder


def uid_clash(folder: Path) -> Path:
    """One file twice under two names."""
    base(folder)
    shutil.copy(folder / "IM00010.dcm", folder / "IM00010 copy.dcm")
    return folder


def color(folder: Path) -> Path:
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()
    for index, ds in enumerate(datasets):
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        gray = (builder.pixels[index] // 4).astype(np.uint8)
        ds.PixelData = np.repeat(gray[..., None], 3, axis=2).tobytes()
    return builder.write(datasets)


def _without(folder: Path, keyword: str) -> Path:
    builder = SeriesBuilder(folder)
    datasets = builder.datasets()
    for ds in datasets:
        delattr(ds, keyword)
    return builder.write(datasets)


def _cut(folder: Path, share: float) -> Path:
    path = folder / "IM00007.dcm"
    os.truncate(path, int(path.stat().st_size * share))
    return folder


FAULTS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "missing": (missing, "E304", r"3 slices are missing: the slices are 2.5 mm apart, but there are 7.5 mm between"),
    "duplicate": (duplicate, "E315", r"2 of 26 images are where another image"),
    "temporal2": (temporal2, "E302", r"2 images at each of 24 positions.*TriggerTime 420, 70"),
    "tilted": (tilted, "E305", r"tilted by 12\.0 degrees.*shift sideways by 12\.2 mm over 57\.5 mm"),
    "two_series": (two_series, "E314", r"holds 2 series: .*LGE left atrium 3D"),
    "localizer": (localizer, "E302", r"1 of 25 images is of another orientation"),
    "other_size": (other_size, "E302", r"1 of 24 images is 32×32 pixels, the others 56×64"),
    "no_for": (no_frame_of_reference, "E316", r"24 of 24 images have no frame of reference"),
    "truncated": (truncated, "E311", r"'IM00007\.dcm' is cut off: \d+ of 7168 bytes"),
    "truncated_header": (truncated_header, "E311", r"'IM00007\.dcm' is cut off at byte \d+, within its header"),
    "truncated_jpegls": (truncated_jpegls, "E311", r"'IM00007\.dcm' is cut off: its compressed pixels end"),
    "truncated_deflated": (truncated_deflated, "E311", r"'IM00007\.dcm' cannot be read"),
    "nodcm": (text_among_images, "E311", r"'IM00025\.dcm' cannot be read \(the file is \d+ bytes, it looks like a"),
    "noiop": (no_orientation, "E316", r"24 of 24 images have no orientation"),
    "no_spacing": (no_spacing, "E306", r"24 of 24 images have no spacing"),
    "nonuniform": (nonuniform, "E304", r"not evenly spaced: from 1\.\d+ to 3\.\d+ mm"),
    "uidclash": (uid_clash, "E315", r"'IM00010 copy\.dcm' and 'IM00010\.dcm'|'IM00010\.dcm' and 'IM00010 copy\.dcm'"),
    "color": (color, "E302", r"is a color image"),
    "enhanced_phases": (lambda folder: enhanced(folder, phases=2), "E302", r"2 images at each of 24 positions"),
}
