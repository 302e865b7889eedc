"""DICOM bytes become a Volume, or are refused with a named reason."""

import json
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import compress, layered_volume, make_dataset, make_encapsulated, make_file, to_bytes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

import extract.dicom.header as header_module
from embeddings_store.errors import VolumeError
from embeddings_store.schema import Eye, Note
from extract.dicom.reader import read_dicom

OUTCOMES = {
    "single_frame": "NotAVolume",
    "one_frame_multi": "NotAVolume",
    "rgb": "UnsupportedColour",
    "no_pixeldata": "NoPixelData",
    "short_pixeldata": "ShortPixelData",
    "not_dicom": "NotDicom",
    "toplevel_tags": Note.NONE,
    "no_spacing": Note.NO_SPACING,
    "monochrome1": Note.MONOCHROME1,
    "reversed_positions": Note.FRAME_ORDER_DISAGREES,
    "shuffled_positions": Note.FRAME_ORDER_DISAGREES,
    "constant": Note.CONSTANT,
    "extra_frames": Note.FRAME_COUNT_DISAGREES,
}
LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def every_other(count: int) -> Any:
    return np.arange(0, count, 2)


def error_class(data: bytes) -> str:
    with pytest.raises(VolumeError) as caught:
        read_dicom(data)
    assert caught.value.stage == "decode"
    return type(caught.value).__name__


class TestReferenceFiles:
    def test_each_ends_as_expected(self, reference: Path) -> None:
        cases = json.loads((reference / "preprocess/dicom/expected.json").read_text())["cases"]
        assert len(cases) == 22
        for name in cases:
            data = (reference / f"preprocess/dicom/{name}.dcm").read_bytes()
            expected = OUTCOMES.get(name, Note.NONE)
            outcome = error_class(data) if isinstance(expected, str) else read_dicom(data).notes
            assert outcome == expected, name

    def test_voxels_and_spacing(self, reference: Path) -> None:
        folder = reference / "preprocess/dicom"
        source = np.load(folder / "source_volume.npy")
        for name in ("shared_groups", "perframe_groups", "implicit_vr", "rle", "monochrome1", "extra_frames"):
            volume = read_dicom((folder / f"{name}.dcm").read_bytes())
            np.testing.assert_array_equal(volume.voxels, source)
            assert volume.spacing_mm == (0.12, 0.004, 0.0115), name
            assert volume.eye == Eye.RIGHT
        assert read_dicom((folder / "toplevel_tags.dcm").read_bytes()).spacing_mm == (0.24, 0.004, 0.0115)
        assert read_dicom((folder / "rescale.dcm").read_bytes()).rescale == (2.5, -300.0)


class TestPixels:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
    @pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
    def test_plain_samples_come_back(self, syntax: UID, dtype: str) -> None:
        voxels = layered_volume(dtype=dtype)
        volume = read_dicom(make_file(voxels, syntax))
        np.testing.assert_array_equal(volume.voxels, voxels)
        assert volume.voxels.dtype == np.dtype(dtype)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
    def test_lossless_samples_come_back(self, syntax: UID, dtype: str) -> None:
        voxels = layered_volume(dtype=dtype)
        volume = read_dicom(compress(voxels, syntax))
        np.testing.assert_array_equal(volume.voxels, voxels)
        assert volume.voxels.dtype == np.dtype(dtype)

    @pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda uid: uid.name)
    def test_a_subset_equals_the_same_frames_of_all(self, syntax: UID) -> None:
        voxels = layered_volume(7)
        data = make_file(voxels, syntax) if syntax in NATIVE else compress(voxels, syntax)
        some = read_dicom(data, frames=every_other)
        np.testing.assert_array_equal(some.frame_numbers, [0, 2, 4, 6])
        np.testing.assert_array_equal(some.voxels, read_dicom(data).voxels[::2])
        assert some.frame_count == some.facts.frames == 7

    def test_only_the_chosen_frames_are_decoded(self) -> None:
        streams = list(frame_streams(compress(layered_volume(6), JPEG2000Lossless)))
        streams[1] = streams[3] = b"\x00" * 40
        data = make_encapsulated(streams, layered_volume(6), JPEG2000Lossless)
        assert len(read_dicom(data, frames=every_other).voxels) == 3
        assert error_class(data) == "UndecodablePixels"

    def test_lossy_jpeg_is_close(self) -> None:
        voxels = layered_volume(4, 32, 24)
        streams = []
        for frame in voxels:
            Image.fromarray(frame).save(stream := BytesIO(), format="JPEG", quality=95)
            streams.append(stream.getvalue())
        volume = read_dicom(make_encapsulated(streams, voxels, JPEGBaseline8Bit))
        assert np.abs(volume.voxels.astype(int) - voxels).mean() < 3

    def test_big_endian_words_of_8_bit_samples(self) -> None:
        voxels = layered_volume(3, 4, 4)
        dataset = make_dataset(voxels, ExplicitVRBigEndian)
        dataset.PixelData = voxels.view(np.uint16).byteswap().tobytes()
        dataset["PixelData"].VR = "OW"
        np.testing.assert_array_equal(read_dicom(to_bytes(dataset)).voxels, voxels)

    @pytest.mark.parametrize("dtype", ["uint16", "int16"])
    def test_bits_above_bits_stored_are_dropped(self, dtype: str) -> None:
        voxels = layered_volume(dtype="int16") // 16 if dtype == "int16" else layered_volume(dtype="uint16") // 16
        dirty = (voxels.view(np.uint16) ^ np.uint16(0x5000)).view(dtype)
        volume = read_dicom(make_file(dirty, BitsStored=12, HighBit=11))
        np.testing.assert_array_equal(volume.voxels, voxels)

    def test_plain_frames_are_a_view_of_the_bytes(self) -> None:
        assert not read_dicom(make_file(layered_volume())).voxels.flags.owndata

    @pytest.mark.parametrize("choice", [[], [2, 1], [0, 6], [-1, 2]])
    def test_frame_numbers_must_be_ascending_and_there(self, choice: list[int]) -> None:
        with pytest.raises(ValueError, match="ascending frame numbers from 0 to 5"):
            read_dicom(make_file(layered_volume(6)), frames=lambda _: np.array(choice, dtype=int))


def frame_streams(data: bytes) -> Any:
    dataset = dcmread(BytesIO(data))
    return generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames)


class TestOffsetTables:
    @pytest.mark.parametrize("offset_table", [True, False])
    @pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
    def test_with_and_without(self, syntax: UID, offset_table: bool) -> None:
        voxels = layered_volume()
        streams = list(frame_streams(compress(voxels, syntax)))
        data = make_encapsulated(streams, voxels, syntax, offset_table=offset_table)
        np.testing.assert_array_equal(read_dicom(data).voxels, voxels)

    @pytest.mark.parametrize("offset_table", [True, False])
    def test_frames_of_several_items(self, offset_table: bool) -> None:
        voxels = layered_volume(4)
        streams = list(frame_streams(compress(voxels, JPEGLSLossless)))
        dataset = make_dataset(voxels)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        from pydicom.encaps import encapsulate

        dataset.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=offset_table)
        dataset["PixelData"].is_undefined_length = True
        np.testing.assert_array_equal(read_dicom(to_bytes(dataset)).voxels, voxels)

    def test_extended_table(self) -> None:
        from pydicom.encaps import encapsulate_extended

        voxels = layered_volume(4)
        dataset = make_dataset(voxels)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        streams = list(frame_streams(compress(voxels, JPEGLSLossless)))
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            streams
        )
        dataset["PixelData"].is_undefined_length = True
        np.testing.assert_array_equal(read_dicom(to_bytes(dataset)).voxels, voxels)

    def test_a_table_that_points_nowhere_is_not_believed(self) -> None:
        voxels = layered_volume(3)
        data = compress(voxels, JPEGLSLossless)
        first = data.index(b"\xfe\xff\x00\xe0") + 8
        broken = data[: first + 4] + (5).to_bytes(4, "little") + data[first + 8 :]
        np.testing.assert_array_equal(read_dicom(broken).voxels, voxels)

    @pytest.mark.parametrize("offset_table", [True, False])
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.name)
    def test_more_frames_than_declared_are_used_and_noted(self, syntax: UID, offset_table: bool) -> None:
        voxels = layered_volume(6)
        streams = list(frame_streams(compress(voxels, syntax)))
        data = make_encapsulated(streams, voxels[:5], syntax, offset_table=offset_table)
        volume = read_dicom(data)
        np.testing.assert_array_equal(volume.voxels, voxels)
        assert volume.notes & Note.FRAME_COUNT_DISAGREES

    @pytest.mark.parametrize("offset_table", [True, False])
    def test_fewer_frames_than_declared_are_refused(self, offset_table: bool) -> None:
        voxels = layered_volume(6)
        streams = list(frame_streams(compress(voxels, RLELossless)))[:5]
        data = make_encapsulated(streams, voxels, RLELossless, offset_table=offset_table)
        assert error_class(data) == "ShortPixelData"


class TestRefusals:
    @given(st.data())
    def test_a_cut_file_is_never_a_volume_nor_a_crash(self, data: st.DataObject) -> None:
        whole = data.draw(st.sampled_from(CUTTABLE))
        cut = whole[: data.draw(st.integers(0, len(whole) - 9))]
        assert error_class(cut) in {"NotDicom", "NoPixelData", "ShortPixelData"}

    @given(st.data())
    def test_flipped_bytes_end_in_a_volume_or_a_named_error(self, data: st.DataObject) -> None:
        damaged = bytearray(data.draw(st.sampled_from(CUTTABLE)))
        for place in data.draw(st.lists(st.integers(132, len(damaged) - 1), min_size=1, max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
        try:
            read_dicom(bytes(damaged))
        except VolumeError as error:
            assert error.stage == "decode"

    def test_a_syntax_without_a_decoder_is_named(self) -> None:
        video = UID("1.2.840.10008.1.2.4.102")
        known = make_encapsulated([b"\x00" * 8] * 4, layered_volume(4), video)
        unknown = make_file(layered_volume()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")
        for data, uid in ((known, str(video)), (unknown, "1.2.840.10008.9.9.9")):
            with pytest.raises(VolumeError, match=uid.replace(".", r"\.")) as caught:
                read_dicom(data)
            assert type(caught.value).__name__ == "UnsupportedSyntax"

    def test_a_claim_beyond_any_scan_is_refused_before_allocation(self) -> None:
        dataset = make_dataset(layered_volume(3))
        dataset.Rows = dataset.Columns = 65535
        assert error_class(to_bytes(dataset)) == "TooLarge"

    def test_a_deflated_file_that_grows_too_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = make_file(layered_volume(), DeflatedExplicitVRLittleEndian)
        monkeypatch.setattr(header_module, "MAX_INFLATED_BYTES", 500)
        assert error_class(data) == "TooLarge"

    def test_a_deflated_file_that_breaks_off(self) -> None:
        data = make_file(layered_volume(), DeflatedExplicitVRLittleEndian)
        assert error_class(data[:-20]) == "ShortPixelData"

    @pytest.mark.parametrize(
        ("elements", "expected"),
        [
            ({"BitsAllocated": 32}, "UndecodablePixels"),
            ({"BitsStored": 9}, "UndecodablePixels"),
            ({"Rows": 0}, "UndecodablePixels"),
            ({"NumberOfFrames": 0}, "NotAVolume"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "UnsupportedColour"),
            ({"RescaleSlope": "1e999"}, "UndecodablePixels"),
        ],
    )
    def test_impossible_headers(self, elements: dict[str, Any], expected: str) -> None:
        assert error_class(make_file(layered_volume(), **elements)) == expected

    def test_a_frame_of_another_size_than_declared(self) -> None:
        data = compress(layered_volume(3, 20, 15), JPEGLSLossless)
        other = make_encapsulated(list(frame_streams(data)), layered_volume(3, 20, 16), JPEGLSLossless)
        assert error_class(other) == "UndecodablePixels"

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("JPEG2000-embedded-sequence-delimiter.dcm", "NotAVolume"),
            ("MR_truncated.dcm", "ShortPixelData"),
            ("SC_rgb_rle_2frame.dcm", "UnsupportedColour"),
            ("examples_ybr_color.dcm", "UnsupportedColour"),
            ("rtdose.dcm", "UndecodablePixels"),
            ("rtplan.dcm", "NoPixelData"),
            ("JPEGLSNearLossless_08.dcm", "NotAVolume"),
            ("image_dfl.dcm", "NotAVolume"),
            ("no_meta.dcm", "NotDicom"),
            ("meta_missing_tsyntax.dcm", "UnsupportedSyntax"),
        ],
    )
    def test_scanner_files(self, name: str, expected: str) -> None:
        path = get_testdata_file(name, download=False)
        assert path is not None
        assert error_class(Path(str(path)).read_bytes()) == expected

    @pytest.mark.parametrize(
        "name",
        [
            "JPEG2000.dcm",
            "693_J2KI.dcm",
            "J2K_pixelrep_mismatch.dcm",
            "JPEGLSNearLossless_16.dcm",
            "MR_small_RLE.dcm",
            "MR_small_bigendian.dcm",
            "MR_small_jp2klossless.dcm",
            "MR_small_padded.dcm",
        ],
    )
    def test_one_scanner_image_twice_is_a_volume_that_decodes_as_in_pydicom(self, name: str) -> None:
        dataset = dcmread(str(get_testdata_file(name, download=False)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = dataset.pixel_array
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            stream = next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))
            elements = {name: dataset[name].value for name in ("BitsStored", "HighBit")}
            data = make_encapsulated(
                [stream, stream], np.stack([frame, frame]), dataset.file_meta.TransferSyntaxUID, **elements
            )
        else:
            data = make_file(np.stack([frame, frame]), dataset.file_meta.TransferSyntaxUID)
        np.testing.assert_array_equal(read_dicom(data).voxels, np.stack([frame, frame]))

    def test_a_scanner_image_of_12_bit_jpeg_is_what_libjpeg_reads(self) -> None:
        # pydicom itself reads 12-bit JPEG by pylibjpeg-libjpeg 2.5.0 alone: its answer, once
        dataset = dcmread(str(get_testdata_file("JPGExtended.dcm", download=False)))
        stream = next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))
        shape = (2, dataset.Rows, dataset.Columns)
        elements = {name: dataset[name].value for name in ("BitsStored", "HighBit")}
        data = make_encapsulated(
            [stream, stream], np.zeros(shape, np.uint16), dataset.file_meta.TransferSyntaxUID, **elements
        )
        voxels = read_dicom(data).voxels.astype(int)
        corner = [[1, 1, 1, 0, 20, 44, 1, 1], [1, 19, 23, 69, 68, 49, 40, 23], [1, 17, 22, 41, 56, 51, 62, 15]]
        assert np.abs(voxels[:, 128:512:128, ::32] - corner).max() <= 1  # rounding: T.81 leaves it to the decoder
        assert voxels.max(axis=(1, 2)).tolist() == [264, 264]
        assert abs(voxels[1].sum() - 3770427) < 0.01 * 3770427


CUTTABLE = [make_file(layered_volume(3, 6, 5)), compress(layered_volume(3, 6, 5), RLELossless)]


def test_the_deflate_bound_is_about_size_not_about_ratio() -> None:
    assert len(zlib.compress(make_file(layered_volume(40, 64, 64) * 0))) < 2000
    volume = read_dicom(make_file(layered_volume(40, 64, 64) * 0, DeflatedExplicitVRLittleEndian))
    assert Note.CONSTANT in volume.notes
