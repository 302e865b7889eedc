"""The multi-frame files of pydicom and pydicom-data: grey ones are pydicom's own arrays, others are refused by name."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread

from extract.dicom.kind import ANY_CLASS
from extract.dicom.reader import read_dicom
from extract.errors import UndecodablePixels, UnsupportedColour


def multi_frame_files() -> list[Path]:
    roots = [Path(str(pydicom.__file__)).parent / "data" / "test_files"]
    if (more := find_spec("data_store")) and more.origin:  # what the package pydicom-data is imported as
        roots.append(Path(more.origin).parent / "data")
    paths = [path for root in roots for path in sorted(root.glob("*.dcm"))]
    return [path for path in paths if _frames(path) > 1]


def _frames(path: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = str(dcmread(path, force=True, specific_tags=["NumberOfFrames"]).get("NumberOfFrames"))
    return int(told) if told.isdecimal() else 1


FILES = multi_frame_files()


def test_there_are_files_of_many_syntaxes() -> None:
    syntaxes = {dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in FILES}
    assert (len(FILES) >= 24, len(syntaxes) >= 6) == (True, True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_frame_is_that_of_pydicom(path: Path) -> None:
    dataset, data = dcmread(path), path.read_bytes()
    if dataset.SamplesPerPixel != 1 or "MONOCHROME" not in dataset.PhotometricInterpretation:
        with pytest.raises((UnsupportedColour, UndecodablePixels), match=r"one grey sample a pixel|32 bits"):
            read_dicom(data, allowed=ANY_CLASS)
        return
    if dataset.BitsAllocated not in {8, 16}:
        with pytest.raises(UndecodablePixels, match="expected rows, columns and 8 or 16 bits"):
            read_dicom(data, allowed=ANY_CLASS)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = dataset.pixel_array
    np.testing.assert_array_equal(read_dicom(data, allowed=ANY_CLASS).voxels, truth)
    for number in range(len(truth)):
        (frame,) = read_dicom(data, allowed=ANY_CLASS, frames=lambda _, one=number: np.array([one])).voxels
        np.testing.assert_array_equal(frame, truth[number])
