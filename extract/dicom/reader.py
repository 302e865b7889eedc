"""read_dicom: the bytes of one file become one Volume."""

from collections.abc import Callable, Collection
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int
from pydicom import Dataset

from embeddings_store.schema import Eye, Note, VolumeRef
from extract.bucket.keys import PROTOCOLS
from extract.dicom.encapsulated import EncapsulatedFrames
from extract.dicom.frame_decoder import FrameDecoder, decode_here
from extract.dicom.geometry import frames_in_order, read_eye, read_spacing, read_text
from extract.dicom.header import FileBytes, Header, quiet_pydicom, read_header
from extract.dicom.kind import check_kind
from extract.dicom.layout import Layout, read_layout
from extract.dicom.native import NativeFrames
from extract.dicom.rescale import read_rescale
from extract.volume import Volume, Voxels

FrameChooser: TypeAlias = Callable[[int], Int[np.ndarray, "k"]]
"""From the number of stored frames to the numbers, from 0 and ascending, of those to decode."""

CIRRUS = "zeiss_cirrus"
PHANTOM_MARK = "SYNTHETIC PHANTOM"


def read_dicom(
    data: FileBytes,
    *,
    ref: VolumeRef | None = None,
    frames: FrameChooser | None = None,
    decode: FrameDecoder = decode_here,
    allowed: Collection[str] = (),
) -> Volume:
    """Read the bytes of one multi-frame file; only chosen frames are decoded (None: all).

    Uncompressed frames are views or slices of the bytes; nothing but an allow-list of elements is parsed.
    decode: where compressed frames are decoded; a DecoderPool outlives a decoder that hangs or crashes.
    allowed: SOP classes, by UID, of other objects than structural OCT that are read all the same.
    Raises: a DicomError, whose class says why the file cannot be used. See extract/errors.py.
    Source: DICOM PS3.3 A.52 (Ophthalmic Tomography), PS3.5 section 8 and annex A.
    """
    source = ref.volume if ref else "file"
    header = read_header(data, source)
    with quiet_pydicom():
        layout = read_layout(header.elements, source, header.plain_bytes)
        kind = check_kind(header.elements, header.sop_class, allowed, source)
        (spacing, spacing_source), eye = read_spacing(header.elements), read_eye(header.elements)
        notes = header.notes | layout.notes | kind | _notes_of_header(header.elements, layout)
    stored = _open_frames(header, layout, source, decode)
    numbers = _choose(frames, stored.count, source)
    with quiet_pydicom():
        rescales = read_rescale(header.elements, stored.count, source)[numbers]
    voxels = stored.read(numbers)
    notes |= stored.notes
    voxels, rescale, note = _apply_rescale(voxels, rescales)
    notes |= note
    notes |= _notes_of_voxels(voxels, stored.count, layout)
    notes |= _notes_of_spacing(spacing, stored.count, layout, _is_cirrus(header.elements, ref))
    notes |= _notes_of_key(ref, eye)
    return Volume(
        voxels=voxels,
        frame_numbers=numbers,
        frame_count=stored.count,
        spacing_mm=spacing,
        rescale=rescale,
        eye=eye,
        protocol=ref.protocol if ref else "",
        device=ref.device if ref else "",
        source=source,
        notes=notes,
        spacing_source=spacing_source,
    )


def _open_frames(
    header: Header, layout: Layout, source: str, decode: FrameDecoder
) -> EncapsulatedFrames | NativeFrames:
    if header.encapsulated:
        return EncapsulatedFrames(header, layout, source, decode)
    return NativeFrames(header, layout, source)


def _apply_rescale(voxels: Voxels, rescales: Float64[np.ndarray, "n 2"]) -> tuple[Voxels, tuple[float, float], Note]:
    """Leave one rescale of all frames to the preset; make frames comparable that have slopes of their own."""
    if (rescales == rescales[0]).all():
        slope, intercept = rescales[0].tolist()
        return voxels, (slope, intercept), Note.NONE if slope else Note.CONSTANT
    slopes, intercepts = (column.astype(np.float32)[:, None, None] for column in rescales.T)
    rescaled: np.ndarray = voxels.astype(np.float32) * slopes + intercepts
    return rescaled, (1.0, 0.0), Note.RESCALED_BY_FRAME


def _choose(frames: FrameChooser | None, count: int, source: str) -> Int[np.ndarray, "k"]:
    numbers = np.arange(count) if frames is None else np.asarray(frames(count))
    ascending = len(numbers) > 0 and bool((np.diff(numbers) > 0).all())
    if not ascending or numbers[0] < 0 or numbers[-1] >= count:
        raise ValueError(f"{source}: expected ascending frame numbers from 0 to {count - 1}, got {numbers}")
    return numbers


def _notes_of_header(elements: Dataset, layout: Layout) -> Note:
    words = " ".join(read_text(elements, name) for name in ("SeriesDescription", "ImageComments", "Manufacturer"))
    notes = Note.SYNTHETIC if PHANTOM_MARK in words else Note.NONE
    notes |= Note.MONOCHROME1 if layout.photometric == "MONOCHROME1" else Note.NONE
    return notes | (Note.NONE if frames_in_order(elements) else Note.FRAME_ORDER_DISAGREES)


def _notes_of_voxels(voxels: Voxels, stored: int, layout: Layout) -> Note:
    notes = Note.FRAME_COUNT_DISAGREES if stored != layout.frames else Note.NONE
    first = voxels[0, 0, 0]
    constant = all((frame == first).all() for frame in voxels)  # stops at the first frame that varies
    return notes | (Note.CONSTANT if constant else Note.NONE)


def _is_cirrus(elements: Dataset, ref: VolumeRef | None) -> bool:
    return ref.device == CIRRUS if ref else "ZEISS" in read_text(elements, "Manufacturer")


def _notes_of_spacing(spacing: tuple[float, float, float] | None, frames: int, layout: Layout, cirrus: bool) -> Note:
    """Mark the Cirrus converter's error: a lateral spacing between frames, on a cube that is not square."""
    if spacing is None:
        return Note.NO_SPACING
    between, _, lateral = spacing
    wrong = cirrus and frames != layout.columns and bool(np.isclose(between, lateral, rtol=1e-6, atol=0.0))
    return Note.SPACING_UNRELIABLE if wrong else Note.NONE


def _notes_of_key(ref: VolumeRef | None, eye: Eye) -> Note:
    if ref is None:
        return Note.NONE
    both_known = Eye.UNKNOWN not in {ref.eye, eye}
    notes = Note.EYE_DISAGREES if both_known and ref.eye != eye else Note.NONE
    return notes | (Note.NONE if ref.protocol in PROTOCOLS else Note.UNKNOWN_PROTOCOL)
