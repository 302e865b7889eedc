"""A map of evidence as files that a viewer opens beside the scan: NIfTI, and a DICOM parametric map."""

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset, dcmread

from embeddings_store.errors import RunError, UsageError
from embeddings_store.schema import Eye
from reports.anatomy.affine import LEFT, POSTERIOR, lps_to_ras, token_affine_lps
from reports.anatomy.scan import ScanGeometry
from reports.cases.scans import ScanCase

RESEARCH_ONLY = "Research use only, not for clinical decisions"
MANUFACTURER, MODEL_NAME = "OCTProbe", "OCTProbe evidence map"
LABEL = "EVIDENCE"
ASKED_OF_A_SOURCE = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "StudyDate")


def export_maps(out: Path, participant: str, scans: Sequence[ScanCase], explanation: str) -> list[Path]:
    """Write every map of every scan that has a raster, as NIfTI and, where its file was read, as DICOM beside it.

    explanation: which class the evidence is for, by which run.
    """
    written = []
    for number, scan in enumerate(scans, 1):
        if scan.geometry.spacing_mm is None:
            continue
        for one in scan.maps:
            stem = f"case-{participant}-{number}-{scan.geometry.protocol}-{scan.geometry.eye}-{one.name}"
            written.append(out / f"{stem}.nii.gz")
            write_nifti(written[-1], one.values, scan.geometry)
            if scan.fetched is not None and scan.fetched.data:
                written.append(out / f"{stem}.dcm")
                told = f"{one.title}, {explanation}"
                write_parametric_map(written[-1], one.values, scan.geometry, scan.fetched.data, told)
    return written


def write_nifti(path: Path, evidence: Float64[np.ndarray, "gd gh gw"], scan: ScanGeometry) -> None:
    """Write float32, one voxel a token, in mm RAS; the description says that it is for research only.

    Raises: UsageError for a scan without a raster, RunError where the file cannot be written.
    """
    import nibabel

    nifti: Any = nibabel  # without types for some calls
    affine = lps_to_ras(_affine(scan, evidence))
    image = nifti.Nifti1Image(evidence.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = RESEARCH_ONLY.encode()
    _write_whole(path, lambda aside: nifti.save(image, aside))


def write_parametric_map(
    path: Path, evidence: Float64[np.ndarray, "gd gh gw"], scan: ScanGeometry, source: bytes, explanation: str
) -> None:
    """Write a DICOM Parametric Map (PS3.3, A.75) that references the source scan by its UIDs.

    source: the scan's own file. explanation: which class the evidence is for, by which run.
    Raises: UsageError for a scan without a raster, or a source that says no frame of reference; RunError.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    affine = _affine(scan, evidence)
    told = dcmread(BytesIO(source), stop_before_pixels=True)
    if "FrameOfReferenceUID" not in told:
        raise UsageError("the source file names no frame of reference; a map beside it would have no place")
    _complete(told, scan)
    volume = hd.Volume(
        evidence.astype(np.float32),
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=told.FrameOfReferenceUID,
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
        source_images=[told],
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


def _complete(told: Dataset, scan: ScanGeometry) -> None:
    """Give the header, in memory, what highdicom asks of a source: empty attributes, and positions from the centre."""
    for name in ASKED_OF_A_SOURCE:
        if name not in told:
            setattr(told, name, "")
    frames = told.get("PerFrameFunctionalGroupsSequence") or [Dataset() for _ in range(scan.frames)]
    stored = token_affine_lps(scan, (scan.frames, scan.rows, scan.columns))
    for number, groups in enumerate(frames):
        position = Dataset()
        position.ImagePositionPatient = [float(mm) for mm in stored[:3] @ (number, 0, 0, 1)]
        groups.PlanePositionSequence = [position]
    told.PerFrameFunctionalGroupsSequence = frames
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [*LEFT, *POSTERIOR]
    measures.PixelSpacing, measures.SliceThickness = list(_spacing(scan)[1:]), _spacing(scan)[0]
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    told.SharedFunctionalGroupsSequence = [shared]


def _spacing(scan: ScanGeometry) -> tuple[float, float, float]:
    if scan.spacing_mm is None:
        raise UsageError(f"{scan.protocol}: no map file can be written: {scan.why_no_raster}")
    return scan.spacing_mm


def _affine(scan: ScanGeometry, evidence: Float64[np.ndarray, "gd gh gw"]) -> Float64[np.ndarray, "4 4"]:
    _spacing(scan)
    return token_affine_lps(scan, (evidence.shape[0], evidence.shape[1], evidence.shape[2]))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(aside)
        aside.replace(path)
    except OSError as error:
        raise RunError(f"--out {path.parent}: expected a folder to write to, got: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
