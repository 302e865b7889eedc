"""One stack of B-scans in every kind of file that holds it exactly, made in memory."""

import gzip
import zlib
from collections.abc import Sequence
from io import BytesIO

import nibabel as nib
import numpy as np
import tifffile
from dicom_files import make_file
from PIL import Image
from pydicom.uid import generate_uid

from extract.readers.contract import ScanFile

SPACING = (0.12, 0.0039, 0.0114)


def as_npy(voxels: np.ndarray, **words: object) -> bytes:
    stream = BytesIO()
    np.save(stream, voxels, **words)
    return stream.getvalue()


def as_npz(*, packed: bool = True, **arrays: object) -> bytes:
    stream = BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def as_picture(pixels: np.ndarray, kind: str, **words: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **words)
    return stream.getvalue()


def as_tiff(voxels: np.ndarray, **words: object) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, voxels, photometric="minisblack", **words)
    return stream.getvalue()


def as_nifti(voxels: np.ndarray, spacing: Sequence[float] = SPACING) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def as_nifti_gz(voxels: np.ndarray) -> bytes:
    return gzip.compress(as_nifti(voxels))


def as_mha(voxels: np.ndarray, *, packed: bool = False, **fields: object) -> bytes:
    frames, rows, columns = voxels.shape
    kind = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "int16": "MET_SHORT", "float32": "MET_FLOAT"}
    lines = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "CompressedData": packed,
        "ElementSpacing": "0.0114 0.0039 0.12", "DimSize": f"{columns} {rows} {frames}",
        "ElementType": kind[voxels.dtype.name], "ElementDataFile": "LOCAL",
    }  # fmt: skip
    place = fields.pop("ElementDataFile", "LOCAL")
    lines = {**lines, **fields, "ElementDataFile": place}
    head = "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()
    pixels = voxels.tobytes()
    body = b"" if place != "LOCAL" else zlib.compress(pixels) if packed else pixels
    return head + body


def as_nrrd(voxels: np.ndarray, *, packed: bool = False, **fields: object) -> bytes:
    frames, rows, columns = voxels.shape
    lines = {
        "type": voxels.dtype.name, "dimension": 3, "sizes": f"{columns} {rows} {frames}", "endian": "little",
        "space directions": "(0.0114,0,0) (0,0.0039,0) (0,0,0.12)", "encoding": "gzip" if packed else "raw",
    } | fields  # fmt: skip
    head = "NRRD0004\n# a comment\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + "\n"
    pixels = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    return head.encode() + (gzip.compress(pixels) if packed else pixels)


def as_mat(**arrays: object) -> bytes:
    from scipy.io import savemat

    stream = BytesIO()
    savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def as_mat73(**arrays: np.ndarray) -> bytes:
    """Write what MATLAB's save -v7.3 does: 512 bytes of text, then HDF5 with the axes in reverse."""
    import h5py

    stream = BytesIO()
    with h5py.File(stream, "w", userblock_size=512) as opened:
        for name, array in arrays.items():
            opened.create_dataset(name, data=array.transpose())
    data = bytearray(stream.getvalue())
    data[:116] = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116)
    data[124:128] = b"\x00\x02IM"
    return bytes(data)


def as_folder(voxels: np.ndarray, kind: str = "PNG", suffix: str = "png") -> list[ScanFile]:
    """Pictures named 0, 1, ... 10, which sort otherwise as text."""
    return [ScanFile(f"P17_OD/{n}_image.{suffix}", as_picture(frame, kind)) for n, frame in enumerate(voxels)]


def as_series(voxels: np.ndarray, *, positions: bool = True, skip: int | None = None) -> list[ScanFile]:
    """One frame a file, named against their order."""
    series, files = generate_uid(entropy_srcs=["series"]), []
    for number, frame in enumerate(voxels):
        words = {"SeriesInstanceUID": series, "InstanceNumber": 1 + number + int(skip is not None and number >= skip)}
        if positions:
            place = number + int(skip is not None and number >= skip)
            words |= {"ImagePositionPatient": [0, 0, 0.12 * place], "PixelSpacing": [0.0039, 0.0114]}
        files.append(ScanFile(f"s/{len(voxels) - number}.dcm", make_file(frame[None], **words)))
    return files
