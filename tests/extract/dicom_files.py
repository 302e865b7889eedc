"""Small multi-frame DICOM files, made in memory."""

from io import BytesIO
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

OPHTHALMIC_TOMOGRAPHY = UID("1.2.840.10008.5.1.4.1.1.77.1.5.4")


def layered_volume(frames: int = 6, rows: int = 40, columns: int = 36, dtype: str = "uint8", seed: int = 0) -> Any:
    """Smooth bands with noise: compressible, and different in every frame."""
    rng = np.random.default_rng(seed)
    depth = np.linspace(0, 6, rows)[None, :, None] + np.linspace(0, 2, frames)[:, None, None]
    bands = 90 + 60 * np.sin(depth) + rng.normal(0, 4, (frames, rows, columns))
    scale = 1 if np.dtype(dtype).itemsize == 1 else 200
    offset = -20000 if np.dtype(dtype).kind == "i" else 0
    return (bands * scale + offset).astype(dtype)


def make_dataset(voxels: Any, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """An Ophthalmic Tomography data set of plain samples."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = OPHTHALMIC_TOMOGRAPHY, generate_uid(entropy_srcs=["octprobe"])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = voxels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8 * voxels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(voxels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if voxels.dtype.itemsize == 2 else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset.save_as(stream, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return stream.getvalue()


def make_file(voxels: Any, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    return to_bytes(make_dataset(voxels, syntax, **elements))


def make_encapsulated(
    streams: list[bytes], like: Any, syntax: UID, *, offset_table: bool = True, **elements: Any
) -> bytes:
    """A file whose frames are these code streams, for an array of this shape and type."""
    dataset = make_dataset(like, **elements)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(streams, has_bot=offset_table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset)


def compress(voxels: Any, syntax: UID, **elements: Any) -> bytes:
    """A file compressed by pydicom's encoder of the syntax."""
    dataset = make_dataset(voxels, **elements)
    dataset.compress(syntax, generate_instance_uid=False)
    return to_bytes(dataset)


def measures(pixel_spacing: Any = None, thickness: Any = None, between: Any = None) -> Dataset:
    """A functional group of pixel measures; None leaves an element out, "" writes it empty."""
    item = Dataset()
    for keyword, value in zip(
        ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"), (pixel_spacing, thickness, between), strict=True
    ):
        if value is not None:
            setattr(item, keyword, value)
    group = Dataset()
    group.PixelMeasuresSequence = [item]
    return group
