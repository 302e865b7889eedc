"""Files that are written oddly are read as they are meant, or noted, or refused by name; whole and in parts alike."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import make_encapsulated
from odd_files import FAMILIES, Odd, bits_of, family, native, packed, volume
from one_object import Bucket
from pydicom.uid import ExplicitVRLittleEndian

import extract.partial.reader as reader_module
from embeddings_store.errors import VolumeError
from embeddings_store.schema import Note
from extract.dicom.reader import read_dicom
from extract.errors import UndecodablePixels
from extract.partial.reader import VolumeReader

ALWAYS = Note.NO_SPACING
UNKNOWABLE = {
    "Rows and Columns swapped": ("VR ", "rle"),  # as many bytes either way
    "a frame twice in place of the next": ("",),
}
"""What no byte of a file contradicts, and where."""

RIGHT = {
    "sound_files": 51,
    "header_faults": 88,
    "sample_layouts": 106,
    "numbers_of_frames": 140,
    "item_chains": 379,
    "native_lengths": 69,
    "native_kinds": 10,
    "colours": 7,
    "rescales": 16,
    "jpegs": 262,
    "other_streams": 17,
}
"""How many of each family are read as they are meant."""


def is_unknowable(odd: Odd) -> bool:
    return any(odd.name.startswith(name) and any(w in odd.name for w in where) for name, where in UNKNOWABLE.items())


def outcome(odd: Odd) -> str:
    try:
        volume = read_dicom(odd.data)
    except VolumeError:
        return "refused"
    same = volume.voxels.shape == odd.truth.shape and np.abs(volume.voxels.astype(int) - odd.truth).max() <= odd.error
    return "right" if same and volume.rescale == odd.rescale else "noted" if volume.notes & ~ALWAYS else "wrong"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_odd_file_is_read_wrong_in_silence(name: str) -> None:
    counts, wrong = Counter[str](), list[str]()
    for odd in family(name):
        found = outcome(odd)
        counts[found] += 1
        if found == "wrong" and not is_unknowable(odd):
            wrong.append(odd.name)
    assert wrong == []
    assert counts["right"] >= RIGHT[name], "what was read once is refused now"


def every_fifth(count: int) -> Any:
    return np.arange(1, count, 5)


def told(data: Any) -> tuple[Any, ...]:
    try:
        volume = read_dicom(data, frames=every_fifth)
    except VolumeError as error:
        return type(error).__name__, str(error)
    return volume.voxels.tobytes(), volume.voxels.dtype, volume.facts, volume.rescale, volume.frame_numbers.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_in_parts_it_is_the_same_volume_or_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "GAP_BYTES", 0)
    monkeypatch.setattr(reader_module, "HEAD_BYTES", 1024)
    different, partly = list[str](), 0
    for odd in family(name):
        bucket = Bucket(tmp_path, odd.data)
        fetched = VolumeReader(bucket, "on", has_room=lambda: True).fetch(bucket.ref, every_fifth)
        partly += bucket.whole == 0
        if told(fetched.data) != told(odd.data):
            different.append(odd.name)
    assert different == []
    assert (partly > 0) is (name != "native_lengths"), "lengths that do not fit are read whole: their bytes tell why"


def test_samples_that_lie_above_their_bits_are_refused() -> None:
    """HighBit says that they lie below: what is left of them there would be zeros and noise."""
    wide = volume(12)
    with pytest.raises(UndecodablePixels, match="the samples lie above the 12 bits stored"):
        read_dicom(native(ExplicitVRLittleEndian, wide << 4, **bits_of(12)))


def test_bits_above_those_stored_are_noted() -> None:
    overlay = (volume(12) | 0x8000).astype("u2")
    found = read_dicom(native(ExplicitVRLittleEndian, overlay, **bits_of(12)))
    np.testing.assert_array_equal(found.voxels, volume(12))
    assert found.notes & Note.SAMPLES_DISAGREE
    assert not read_dicom(native(ExplicitVRLittleEndian, volume(12), **bits_of(12))).notes & Note.SAMPLES_DISAGREE


@pytest.mark.parametrize("bits", [8, 16])
def test_a_j2k_stream_without_a_sign_under_a_signed_header_is_noted(bits: int) -> None:
    syntax, streams, voxels = packed("j2k", bits)
    found = read_dicom(make_encapsulated(streams, voxels, syntax, PixelRepresentation=1, **bits_of(bits)))
    assert found.notes & Note.SAMPLES_DISAGREE
    assert not read_dicom(make_encapsulated(streams, voxels, syntax, **bits_of(bits))).notes & Note.SAMPLES_DISAGREE


@pytest.mark.parametrize("kept", [True, False])
def test_an_rle_frame_of_more_samples_is_refused_unless_they_are_padding(kept: bool) -> None:
    syntax, streams, voxels = packed("rle", 8)
    longer = [stream + (bytes(30) if kept else b"\xf1\x07") for stream in streams]
    data = make_encapsulated(longer, voxels, syntax)
    if kept:
        np.testing.assert_array_equal(read_dicom(data).voxels, voxels)
    else:
        with pytest.raises(UndecodablePixels, match="more than 1,280 samples"):
            read_dicom(data)


@pytest.mark.parametrize("kind", ["native 8", "j2k 12"])
def test_half_a_frame_more_is_no_number_of_frames(kind: str) -> None:
    (odd,) = (one for one in family("numbers_of_frames") if one.name == f"NumberOfFrames b'12.5', {kind}")
    assert outcome(odd) == "refused"
