"""Buckets for the tests that run the whole line: real scanner files and real B-scans in the AI-READI layout."""

from pathlib import Path

import numpy as np
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import JPEG2000Lossless, OphthalmicTomographyImageStorage, generate_uid

LAYOUT = "retinal_oct/structural_oct"

# The same ten frames in five encodings, one file with real functional groups, one that no decoder can read.
EMRI_ENCODINGS = {
    "1001": "emri_small.dcm",
    "1002": "emri_small_RLE.dcm",
    "1003": "emri_small_big_endian.dcm",
    "1004": "emri_small_jpeg_2k_lossless.dcm",
    "1005": "emri_small_jpeg_ls_lossless.dcm",
}
FUNCTIONAL_GROUPS = {"4001": "eCT_Supplemental.dcm"}
UNREADABLE = {"7001": "JPEG2000-embedded-sequence-delimiter.dcm"}


def scanner_bucket(bucket: Path) -> Path:
    """Lay pydicom's real scanner files out as a bucket, one participant a file."""
    for number, (participant, name) in enumerate({**EMRI_ENCODINGS, **FUNCTIONAL_GROUPS, **UNREADABLE}.items()):
        source = get_testdata_file(name, download=False)
        assert isinstance(source, str), f"pydicom's wheel has no {name}"
        place(bucket, participant, Path(source).read_bytes(), number)
    return bucket


def place(bucket: Path, participant: str, data: bytes, number: int, device: str = "heidelberg_spectralis") -> str:
    """Write one file where the layout wants it; give its key."""
    name = f"{participant}_spectralis_ppol_mac_hr_oct_l_2.25.{1000 + number}.dcm"
    path = bucket / LAYOUT / device / participant / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path.relative_to(bucket))


def wrap_as_dicom(frames: np.ndarray, *, lossless_jpeg2000: bool) -> bytes:
    """Wrap uint8 [frames, rows, columns] as a multi-frame Ophthalmic Tomography object."""
    from io import BytesIO

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OphthalmicTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = OphthalmicTomographyImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "OPT"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.ascontiguousarray(frames).tobytes()
    if lossless_jpeg2000:
        dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
