"""A map of evidence as files that a viewer opens beside the scan: NIfTI, and a DICOM parametric map."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset, dcmread

from embeddings_store.errors import RunError, UsageError
from embeddings_store.file_names import file_name
from embeddings_store.publish import published
from embeddings_store.schema import Eye
from reports.anatomy.affine import lps_to_ras
from reports.anatomy.placement import Placement, find_placement
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen
from reports.cases.scans import ScanCase

RESEARCH_ONLY = "Research use only, not for clinical decisions"
MANUFACTURER, MODEL_NAME = "OCTProbe", "OCTProbe evidence map"
LABEL = "EVIDENCE"
ASKED_OF_A_SOURCE = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "StudyDate")


def export_maps(out: Path, participant: str, scans: Sequence[ScanCase], explanation: str) -> list[Path]:
    """Write every map of every scan that has a raster, as NIfTI and, where its file was read, as DICOM beside it.

    Maps of single B-scans are written as NIfTI alone: a parametric map has no value for "nothing is claimed here".
    explanation: which class the evidence is for, by which run.
    """
    written = []
    for number, scan in enumerate(scans, 1):
        if scan.geometry.spacing_mm is None:
            continue
        for one in scan.maps:
            named = (participant, number, scan.geometry.protocol, scan.geometry.eye, one.name)
            stem = f"case-{'-'.join(file_name(str(part)) for part in named)}"
            source = (scan.fetched.data or None) if scan.fetched is not None else None
            written.append(out / f"{stem}.nii.gz")
            write_nifti(written[-1], one.values, scan.geometry, source, scan.seen)
            if source is not None and scan.seen.frames is None:
                written.append(out / f"{stem}.dcm")
                said = f"{one.title}, {explanation}"
                write_parametric_map(written[-1], one.values, scan.geometry, source, said, scan.seen)
    return written


def write_nifti(
    path: Path,
    evidence: Float64[np.ndarray, "gd gh gw"],
    scan: ScanGeometry,
    source: bytes | None = None,
    seen: Seen = WHOLE,
) -> None:
    """Write float32, one voxel a token, in mm RAS; the description says that it is for research only.

    Where the encoder saw single B-scans, the map is as deep as the stored frames, and NaN between those.
    source: the scan's own file, for its place; without one, or where it says none, the scan's centre is the origin.
    Raises: UsageError for a scan without a raster, RunError where the file cannot be written.
    """
    import nibabel

    nifti: Any = nibabel  # without types for some calls
    place = _place(scan, None if source is None else _header(source))
    evidence = _on_frames(evidence, scan.frames, seen)
    affine = lps_to_ras(place.of_tokens(scan, _grid(evidence), seen))
    image = nifti.Nifti1Image(evidence.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = RESEARCH_ONLY.encode()
    image.set_sform(affine, code="aligned" if place.frame_of_reference is None else "scanner")
    _write_whole(path, lambda aside: nifti.save(image, aside))


def write_parametric_map(
    path: Path,
    evidence: Float64[np.ndarray, "gd gh gw"],
    scan: ScanGeometry,
    source: bytes,
    explanation: str,
    seen: Seen = WHOLE,
) -> None:
    """Write a DICOM Parametric Map (PS3.3, A.75) that references the source scan by its UIDs.

    source: the scan's own file. It lies where that file says, in its frame of reference; where the file does not say,
    in a frame of reference of its own. explanation: which class the evidence is for, by which run.
    Raises: UsageError for a scan without a raster; RunError.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    header = _header(source)
    place = _place(scan, header)
    header.FrameOfReferenceUID = place.frame_of_reference or hd.UID()
    _complete(header, scan, place.affine)
    volume = hd.Volume(
        evidence.astype(np.float32),
        place.of_tokens(scan, _grid(evidence), seen),
        coordinate_system="PATIENT",
        frame_of_reference_uid=header.FrameOfReferenceUID,
    )
    largest = float(np.abs(evidence).max()) or 1.0
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=LABEL,
        lut_explanation=explanation[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(-largest, largest),
        slope=1.0,
        intercept=0.0,
    )
    made = hd.pm.ParametricMap(
        source_images=[header],
        pixel_array=volume,
        series_instance_uid=hd.UID(),
        series_number=900,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions="octprobe",
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=2 * largest)],
        content_label=LABEL,
        content_description=RESEARCH_ONLY,
    )
    made.Laterality = "" if scan.eye is Eye.UNKNOWN else str(scan.eye)  # a paired organ: PS3.3, C.7.3.1
    _write_whole(path, made.save_as)


def _header(source: bytes) -> Dataset:
    return dcmread(BytesIO(source), stop_before_pixels=True)


def _complete(header: Dataset, scan: ScanGeometry, stored: Float64[np.ndarray, "4 4"]) -> None:
    """Give a header, in memory, what highdicom asks of a source: attributes that may be empty, and a place per frame.

    stored: from frame, row and column to mm, LPS.
    """
    for name in ASKED_OF_A_SOURCE:
        if name not in header:
            setattr(header, name, "")
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(frames) != scan.frames:
        frames = [Dataset() for _ in range(scan.frames)]
    for number, groups in enumerate(frames):
        position = Dataset()
        position.ImagePositionPatient = [float(mm) for mm in stored[:3] @ (number, 0, 0, 1)]
        groups.PlanePositionSequence = [position]
    header.PerFrameFunctionalGroupsSequence = frames
    orientation, measures = Dataset(), Dataset()
    between, *pixel = np.linalg.norm(stored[:3, :3], axis=0)
    along_row, down = stored[:3, 2] / pixel[1], stored[:3, 1] / pixel[0]
    orientation.ImageOrientationPatient = [float(part) for part in (*along_row, *down)]
    measures.PixelSpacing, measures.SliceThickness = [float(mm) for mm in pixel], float(between)
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    header.SharedFunctionalGroupsSequence = [shared]


def _place(scan: ScanGeometry, header: Dataset | None) -> Placement:
    if scan.spacing_mm is None:
        raise UsageError(f"{scan.protocol}: no map file can be written: {scan.why_no_raster}")
    return find_placement(scan, header)


def _grid(evidence: Float64[np.ndarray, "gd gh gw"]) -> tuple[int, int, int]:
    return evidence.shape[0], evidence.shape[1], evidence.shape[2]


def _on_frames(
    evidence: Float64[np.ndarray, "gd gh gw"], frames: int, seen: Seen
) -> Float64[np.ndarray, "depth gh gw"]:
    if seen.frames is None:
        return evidence
    spread = np.full((frames, *evidence.shape[1:]), np.nan)
    spread[seen.frames] = evidence
    return spread


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with published(path) as aside:
            write(aside)
    except OSError as error:
        raise RunError(f"--out {path.parent}: expected a folder to write to, got: {error.strerror}") from error
