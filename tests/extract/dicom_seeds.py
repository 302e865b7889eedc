"""Sound DICOM files of every kind the reader meets, small enough to be damaged by the thousand."""

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from dicom_files import compress, layered_volume, make_encapsulated, make_file, measures
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.filewriter import dcmwrite
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from embeddings_store.schema import Eye
from extract.phantom.dicom_file import SYNTAXES, Identity, encode, scan_dataset
from extract.phantom.scan import Scan
from extract.phantom.scanners import PROTOCOLS

SCANNER_FILES = (
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "UN_sequence.dcm",
    "badVR.dcm",
    "image_dfl.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "rtdose_rle.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
)
SCANNER_STREAMS = ("JPEG2000.dcm", "JPEGLSNearLossless_16.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm")
"""Single images whose code stream, used twice, makes a volume of a codec that nothing here encodes."""


def phantom_seeds() -> dict[str, bytes]:
    """One raster and one radial scan, with a phantom's header, in every transfer syntax of the generator."""
    made = {}
    protocols = [next(p for p in PROTOCOLS.values() if p.radial is radial) for radial in (False, True)]
    for protocol in protocols:
        scan = Scan(layered_volume(4, 32, 32), protocol, Eye.RIGHT, (0.01,) * 4)
        for syntax in SYNTAXES:
            dataset = scan_dataset(scan, Identity("1001", 0))
            encode(dataset, syntax)
            stream = BytesIO()
            dcmwrite(stream, dataset, enforce_file_format=True)
            made[f"phantom-{protocol.name}-{syntax}"] = stream.getvalue()
    return made


def made_seeds() -> dict[str, bytes]:
    """16-bit samples, signed ones, positions, and frames without an offset table."""
    wide, signed = layered_volume(4, 32, 32, "uint16"), layered_volume(4, 32, 32, "int16")
    plane, group = Dataset(), measures([0.1, 0.2], 0.3)
    plane.ImagePositionPatient = [0, 0, 1]
    group.PlanePositionSequence = [plane]
    made = {
        "made-positions": make_file(wide, PerFrameFunctionalGroupsSequence=[group] * 4),
        "made-signed": make_file(signed, RescaleSlope="2.5", RescaleIntercept="-300"),
    }
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        data = compress(wide, syntax)
        streams = list(generate_frames(dcmread(BytesIO(data)).PixelData, number_of_frames=4))
        made[f"made-{syntax.name}"] = make_encapsulated(streams, wide, syntax, offset_table=False)
    return made


def scanner_seeds() -> dict[str, bytes]:
    """Files that pydicom brings along, and volumes made of their code streams."""
    made = {
        f"pydicom-{name}": Path(str(get_testdata_file(name, download=False))).read_bytes() for name in SCANNER_FILES
    }
    for name in SCANNER_STREAMS:
        dataset = dcmread(str(get_testdata_file(name, download=False)))
        stream = next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))
        like = np.zeros((2, dataset.Rows, dataset.Columns), f"u{dataset.BitsAllocated // 8}")
        made[f"streams-{name}"] = make_encapsulated([stream] * 2, like, dataset.file_meta.TransferSyntaxUID)
    return made


def reference_seeds(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The DICOM cases of the reference fixtures; none where they do not exist."""
    for path in sorted(folder.glob("*.dcm")):
        yield f"reference-{path.stem}", path.read_bytes()


def all_seeds(reference: Path | None = None) -> dict[str, bytes]:
    """Every seed by name, in an order that is always the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom speaks up about its own odd files
        seeds = phantom_seeds() | made_seeds() | scanner_seeds()
    return seeds | dict(reference_seeds(reference) if reference else ())
