"""read_dicom: the bytes of one file become one Volume."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from mmap import mmap
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int
from pydicom import Dataset

from embeddings_store.schema import Eye, Kind, Note, SpacingSource, VolumeRef
from extract.dicom.concatenation import Part, check_offsets, order_parts, read_part, require_alike
from extract.dicom.encapsulated import EncapsulatedFrames
from extract.dicom.frame_decoder import FrameDecoder, decode_here
from extract.dicom.geometry import frames_in_order, read_eye, read_numbers, read_spacing, read_text
from extract.dicom.header import FileBytes, Header, quiet_pydicom, read_header
from extract.dicom.kind import check_kind
from extract.dicom.layout import SampleLayout, read_layout, require_volume
from extract.dicom.native import NativeFrames
from extract.dicom.palette import PALETTE, GreyPalette
from extract.dicom.rescale import read_rescale
from extract.dicom.series import Series, order_series
from extract.errors import IncompleteConcatenation, RefusedScan
from extract.layouts.ai_readi import names_protocol
from extract.volume import Volume, Voxels

FrameChooser: TypeAlias = Callable[[int], Int[np.ndarray, "k"]]
"""From the number of stored frames to the numbers, from 0 and ascending, of those to decode."""

StoredFrames: TypeAlias = EncapsulatedFrames | NativeFrames
"""The frames of one file."""

CIRRUS = "zeiss_cirrus"
PHANTOM_MARK = "SYNTHETIC PHANTOM"


@dataclass(frozen=True)
class _File:
    """One file, read but for its frames."""

    header: Header
    layout: SampleLayout
    spacing: tuple[float, float, float] | None
    spacing_source: SpacingSource
    eye: Eye
    notes: Note
    kind: Kind

    @property
    def facts(self) -> dict[str, object]:
        """What the parts of a volume must agree on, by name."""
        layout = replace(self.layout, frames=0, notes=Note.NONE)
        shared = None if self.spacing_source is SpacingSource.PER_FRAME else self.spacing
        told = {"transfer syntax": str(self.header.syntax), "SOP class": self.header.sop_class, "eye": str(self.eye)}
        return {**told, **asdict(layout), "spacing": str(shared)}


def read_dicom(
    data: FileBytes | Sequence[FileBytes],
    *,
    ref: VolumeRef | None = None,
    frames: FrameChooser | None = None,
    decode: FrameDecoder = decode_here,
    allowed: Collection[str] = (),
) -> Volume:
    """Read one multi-frame file, all parts of a concatenation, or a series of one frame a file.

    Only chosen frames are decoded.

    Uncompressed frames are views or slices of the bytes; nothing but an allow-list of elements is parsed.
    frames: chooses among those of the whole volume (None: all). ref: of the first part.
    decode: where compressed frames are decoded; a DecoderPool outlives a decoder that hangs or crashes.
    allowed: SOP classes, by UID, of other objects than structural OCT that are read all the same.
    Raises: a DicomError, whose class says why the file cannot be used. See extract/errors.py.
    Source: DICOM PS3.3 A.52 (Ophthalmic Tomography), PS3.5 section 8 and annex A.
    """
    source = ref.volume if ref else "file"
    headers, parts, series = _read_headers([data] if isinstance(data, bytes | mmap) else data, source)
    files = [_read_file(header, allowed, source, is_part=bool(parts or series)) for header in headers]
    if series is not None:
        files = _as_series(files, series, source)
    elif len(files) > 1:
        require_alike([file.facts for file in files], parts, source)
    palettes = [_palette(file, source) for file in files]
    stored = [_open_frames(file.header, file.layout, source, decode) for file in files]
    counts = [one.count for one in stored]
    check_offsets(parts, counts, source)
    first, count = files[0], sum(counts)
    require_volume(first.layout, count, source)
    numbers = _choose(frames, count, source)
    with quiet_pydicom():
        told = [read_rescale(header.elements, own, source) for header, own in zip(headers, counts, strict=True)]
        in_order = frames_in_order([header.elements for header in headers])
    voxels = _read_frames(stored, palettes, counts, numbers)
    voxels, rescale, notes = _apply_rescale(voxels, np.concatenate(told)[numbers])
    for file, one in zip(files, stored, strict=True):
        notes |= file.notes | _notes_of_frames(one, file.layout)
    notes |= (Note.JOINED if parts else Note.NONE) | (series.notes if series else Note.NONE)
    notes |= Note.NONE if in_order else Note.FRAME_ORDER_DISAGREES
    notes |= _notes_of_voxels(voxels)
    notes |= _notes_of_spacing(first.spacing, count, first.layout, _is_cirrus(first.header.elements, ref))
    notes |= _notes_of_key(ref, first.eye)
    return Volume(
        voxels=voxels,
        frame_numbers=numbers,
        frame_count=count,
        spacing_mm=first.spacing,
        rescale=rescale,
        eye=first.eye,
        protocol=ref.protocol if ref else "",
        device=ref.device if ref else "",
        source=source,
        notes=notes,
        spacing_source=first.spacing_source,
        kind=first.kind,
    )


def _read_headers(files: Sequence[FileBytes], source: str) -> tuple[list[Header], list[Part], Series | None]:
    """Read the header of one whole file, or of all files of a volume, which then come in their order."""
    headers = [read_header(data, source) for data in files]
    with quiet_pydicom():
        found = [read_part(header.elements) for header in headers]
        parts = [part for part in found if part is not None]
        if len(files) > 1 and not parts and all(_is_one_frame(header) for header in headers):
            series = order_series([header.elements for header in headers], source)
            return [headers[index] for index in series.order], [], series
    if len(files) > 1 and len(parts) < len(files):
        raise IncompleteConcatenation(f"{source}: expected the parts of one volume, got a whole one among them")
    order = order_parts(parts, source) if parts else [0]
    return [headers[index] for index in order], [parts[index] for index in order] if parts else [], None


def _is_one_frame(header: Header) -> bool:
    """Tell whether a file is one frame of a series; a single-frame class does not say how many it has."""
    told = read_numbers(header.elements, "NumberOfFrames")
    if "NumberOfFrames" not in header.elements:
        header.elements.NumberOfFrames = 1
        return True
    return told == [1.0]


def _as_series(files: Sequence[_File], series: Series, source: str) -> list[_File]:
    """Refuse frames that differ in what a volume has once; the step between frames is that of their positions."""
    for number, file in enumerate(files, 1):
        for name, value in file.facts.items():
            if value != files[0].facts[name]:
                raise RefusedScan(
                    f"{source}: frame {number} of the series contradicts the first: {name} {value}, not "
                    f"{files[0].facts[name]}"
                )
    first = files[0]
    if series.step_mm is None or first.spacing is None:
        return list(files)
    return [replace(first, spacing=(series.step_mm, *first.spacing[1:])), *files[1:]]


def _read_file(header: Header, allowed: Collection[str], source: str, *, is_part: bool) -> _File:
    elements = header.elements
    with quiet_pydicom():
        layout = read_layout(elements, source, header.plain_bytes, fewest_frames=1 if is_part else 2)
        kind, odd = check_kind(elements, header.sop_class, allowed, source)
        spacing, spacing_source = read_spacing(elements)
        notes = header.notes | layout.notes | odd | _notes_of_header(elements, layout)
        return _File(header, layout, spacing, spacing_source, read_eye(elements), notes, kind)


def _open_frames(header: Header, layout: SampleLayout, source: str, decode: FrameDecoder) -> StoredFrames:
    if header.encapsulated:
        return EncapsulatedFrames(header, layout, source, decode)
    return NativeFrames(header, layout, source)


def _palette(file: _File, source: str) -> GreyPalette | None:
    if file.layout.photometric != PALETTE:
        return None
    with quiet_pydicom():
        return GreyPalette(file.header.elements, source, little_endian=file.header.little_endian)


def _read_frames(
    stored: Sequence[StoredFrames],
    palettes: Sequence[GreyPalette | None],
    counts: Sequence[int],
    numbers: Int[np.ndarray, "n"],
) -> Voxels:
    """Read the frames of these numbers, which count on from file to file; of one file without a copy."""

    def read(one: StoredFrames, palette: GreyPalette | None, own: Int[np.ndarray, "n"]) -> Voxels:
        voxels = one.read(own)
        return voxels if palette is None else palette.apply(voxels)

    if len(stored) == 1:
        return read(stored[0], palettes[0], numbers)
    starts = np.cumsum([0, *counts])
    chosen = [numbers[(numbers >= start) & (numbers < stop)] - start for start, stop in pairwise(starts)]
    triples = zip(stored, palettes, chosen, strict=True)
    return np.concatenate([read(one, palette, own) for one, palette, own in triples if len(own)])


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


def _notes_of_header(elements: Dataset, layout: SampleLayout) -> Note:
    words = " ".join(read_text(elements, name) for name in ("SeriesDescription", "ImageComments", "Manufacturer"))
    notes = Note.SYNTHETIC if PHANTOM_MARK in words else Note.NONE
    return notes | (Note.MONOCHROME1 if layout.photometric == "MONOCHROME1" else Note.NONE)


def _notes_of_frames(stored: StoredFrames, layout: SampleLayout) -> Note:
    """Return what the frames showed, once they are read."""
    return stored.notes | (Note.FRAME_COUNT_DISAGREES if stored.count != layout.frames else Note.NONE)


def _notes_of_voxels(voxels: Voxels) -> Note:
    first = voxels[0, 0, 0]
    constant = all((frame == first).all() for frame in voxels)  # stops at the first frame that varies
    return Note.CONSTANT if constant else Note.NONE


def _is_cirrus(elements: Dataset, ref: VolumeRef | None) -> bool:
    return ref.device == CIRRUS if ref else "ZEISS" in read_text(elements, "Manufacturer")


def _notes_of_spacing(
    spacing: tuple[float, float, float] | None, frames: int, layout: SampleLayout, cirrus: bool
) -> Note:
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
    return notes | (Note.NONE if names_protocol(ref) else Note.UNKNOWN_PROTOCOL)
