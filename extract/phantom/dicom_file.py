"""A scan as a DICOM object: Ophthalmic Tomography, 8 bits, tags that say SYNTHETIC PHANTOM."""

from dataclasses import dataclass
from hashlib import sha256

import pydicom.uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence

from extract.phantom.scan import Scan
from extract.phantom.scanners import SCANNERS

OPHTHALMIC_TOMOGRAPHY = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.77.1.5.4")
BANNER = "SYNTHETIC PHANTOM"
FIXED_DATE = "20240101"
FIXED_TIME = "120000"

NATIVE = {
    "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "implicit": pydicom.uid.ImplicitVRLittleEndian,
    "big-endian": pydicom.uid.ExplicitVRBigEndian,
    "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
}
ENCAPSULATED = {
    "rle": (pydicom.uid.RLELossless, "pylibjpeg"),
    "j2k": (pydicom.uid.JPEG2000Lossless, "pylibjpeg"),
    "jpegls": (pydicom.uid.JPEGLSLossless, "pyjpegls"),
}
SYNTAXES = (*NATIVE, *ENCAPSULATED)
"""All lossless, and exactly those that the installed libraries encode; nothing here writes HTJ2K."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file says about whose scan it is: participant, seed, and which repeat of the same scan."""

    participant: str
    seed: int
    repeat: int = 0

    def uid(self, *words: str) -> str:
        """Derive a UID under 2.25 from the seed and words; the same words give the same UID."""
        text = "|".join(("octprobe phantom", str(self.seed), self.participant, str(self.repeat), *words))
        return f"2.25.{int.from_bytes(sha256(text.encode()).digest()[:16], 'big')}"

    def scan_uid(self, scan: Scan) -> str:
        """Name one scan of this identity."""
        return self.uid("scan", scan.protocol.name, str(scan.eye))


def scan_dataset(scan: Scan, who: Identity) -> FileDataset:
    """Describe a scan in native explicit little endian; encode() changes the transfer syntax."""
    uid = who.scan_uid(scan)
    dataset = FileDataset("", {}, file_meta=_file_meta(uid), preamble=b"\0" * 128)
    _describe_identity(dataset, scan, who, uid)
    _describe_pixels(dataset, scan)
    dataset.SharedFunctionalGroupsSequence = Sequence([_group() if scan.protocol.radial else _spacing(scan)])
    if scan.protocol.radial:
        frames = [_spacing(scan, lateral_mm) for lateral_mm in scan.lateral_mm]
        dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def encode(dataset: FileDataset, syntax: str) -> None:
    """Bring a native dataset into one of SYNTAXES, in place."""
    if syntax in NATIVE:
        dataset.file_meta.TransferSyntaxUID = NATIVE[syntax]
        return
    uid, plugin = ENCAPSULATED[syntax]
    dataset.compress(uid, encoding_plugin=plugin, generate_instance_uid=False)


def spacing_group(axial_mm: float, lateral_mm: float, thickness_mm: float | None) -> Dataset:
    """Make a functional group with pixel measures; an unknown slice thickness is left out."""
    measures = Dataset()
    measures.PixelSpacing = [_decimal(axial_mm), _decimal(lateral_mm)]
    if thickness_mm is not None:
        measures.SliceThickness = _decimal(thickness_mm)
    group = Dataset()
    group.PixelMeasuresSequence = Sequence([measures])
    return group


def _spacing(scan: Scan, lateral_mm: float | None = None) -> Dataset:
    thickness = None if scan.protocol.radial else scan.protocol.frame_mm
    return spacing_group(scan.protocol.axial_mm, lateral_mm or scan.protocol.lateral_mm, thickness)


def _group() -> Dataset:
    """Make the shared group of the radial protocol: present, and empty, as its converter wrote it."""
    group = Dataset()
    group.PixelMeasuresSequence = Sequence([])
    return group


def _file_meta(uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OPHTHALMIC_TOMOGRAPHY
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(uid)
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = pydicom.uid.UID("2.25.85277366023270921126390372413411021021")
    meta.ImplementationVersionName = "OCTPROBE_PHANTOM"
    return meta


def _describe_identity(dataset: FileDataset, scan: Scan, who: Identity, uid: str) -> None:
    scanner = SCANNERS[scan.protocol.device]
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = OPHTHALMIC_TOMOGRAPHY
    dataset.SOPInstanceUID = uid
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = FIXED_DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = FIXED_TIME
    dataset.AcquisitionDateTime = FIXED_DATE + FIXED_TIME
    dataset.AccessionNumber = ""
    dataset.Modality = "OPT"
    dataset.Manufacturer = scanner.manufacturer
    dataset.ManufacturerModelName = scanner.model
    dataset.ReferringPhysicianName = ""
    dataset.SeriesDescription = f"{BANNER} {scan.protocol.name}"
    dataset.PatientName = "SYNTHETIC^PHANTOM"
    dataset.PatientID = f"PHANTOM-{who.participant}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.ProtocolName = scan.protocol.name
    dataset.StudyInstanceUID = who.uid("study")
    dataset.SeriesInstanceUID = who.uid("series", scan.protocol.name, str(scan.eye))
    dataset.FrameOfReferenceUID = who.uid("frame", scan.protocol.name, str(scan.eye))
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1 + who.repeat
    dataset.ImageLaterality = str(scan.eye)
    dataset.ImageComments = f"{BANNER}: made-up image, no person was scanned; not for any clinical use"
    dataset.BurnedInAnnotation = "NO"


def _describe_pixels(dataset: FileDataset, scan: Scan) -> None:
    frames, rows, columns = scan.voxels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    pixels = scan.voxels.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"


def _decimal(value_mm: float) -> str:
    """Write a decimal string of at most 16 characters."""
    return f"{value_mm:.8f}".rstrip("0")
