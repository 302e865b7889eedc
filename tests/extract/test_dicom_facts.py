"""What a file tells beside its voxels, and what it must never tell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicom_files import layered_volume, make_dataset, make_file, measures, to_bytes
from pydicom import Dataset

import extract.dicom.header as header_module
from embeddings_store.errors import VolumeError
from embeddings_store.schema import AI_READI_FOLDER, Eye, Note, ParticipantId, SpacingSource, VolumeId, VolumeRef
from extract.dicom.header import ALLOWED
from extract.dicom.reader import read_dicom


def reference_for(eye: Eye = Eye.RIGHT, device: str = "zeiss_cirrus", protocol: str = "cirrus_mac") -> VolumeRef:
    return VolumeRef("k.dcm", -1, "", VolumeId("00c0ffee00c0ffee"), ParticipantId("1001"), eye, device, protocol)


def every_other(count: int) -> Any:
    return np.arange(0, count, 2)


class TestGeometry:
    def test_shared_groups_go_before_frames_before_the_top(self) -> None:
        groups = {
            "SharedFunctionalGroupsSequence": [measures([0.1, 0.2], 0.3)],
            "PerFrameFunctionalGroupsSequence": [measures([0.4, 0.5], 0.6)],
            "PixelSpacing": [0.7, 0.8],
            "SliceThickness": 0.9,
        }
        found = []
        for place in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelSpacing", "Rows"):
            volume = read_dicom(make_file(layered_volume(), **groups))
            assert (volume.facts.spacing_mm, volume.facts.spacing_source) == (volume.spacing_mm, volume.spacing_source)
            found.append((volume.spacing_mm, volume.spacing_source))
            groups.pop(place, None)
        assert found == [
            ((0.3, 0.1, 0.2), SpacingSource.SHARED),
            ((0.6, 0.4, 0.5), SpacingSource.PER_FRAME),
            ((0.9, 0.7, 0.8), SpacingSource.TOP_LEVEL),
            (None, SpacingSource.NONE),
        ]

    def test_the_source_is_that_of_the_pixel_spacing(self) -> None:
        groups = {"SharedFunctionalGroupsSequence": [measures("", 0.3)], "PixelSpacing": [0.7, 0.8]}
        volume = read_dicom(make_file(layered_volume(), **groups))
        assert (volume.spacing_mm, volume.spacing_source) == ((0.3, 0.7, 0.8), SpacingSource.TOP_LEVEL)

    def test_the_distance_goes_before_the_thickness(self) -> None:
        group = measures([0.1, 0.2], 0.3, 0.25)
        volume = read_dicom(make_file(layered_volume(), SharedFunctionalGroupsSequence=[group]))
        assert volume.spacing_mm == (0.25, 0.1, 0.2)

    def test_radial_files_tell_no_distance_between_frames(self) -> None:
        frames = [measures([0.004, 0.01], "") for _ in range(6)]
        volume = read_dicom(make_file(layered_volume(6), PerFrameFunctionalGroupsSequence=frames))
        assert volume.spacing_mm is not None
        np.testing.assert_equal(volume.spacing_mm, (np.nan, 0.004, 0.01))
        assert volume.notes == Note.NONE

    @pytest.mark.parametrize("group", [Dataset(), measures("", ""), measures([0.0, 0.1], 0.1), measures(None, 0.2)])
    def test_empty_and_impossible_measures_are_no_spacing(self, group: Dataset) -> None:
        volume = read_dicom(make_file(layered_volume(), SharedFunctionalGroupsSequence=[group]))
        assert volume.spacing_mm is None
        assert volume.notes == Note.NO_SPACING

    def test_an_empty_sequence_of_measures(self) -> None:
        group = Dataset()
        group.PixelMeasuresSequence = []
        assert read_dicom(make_file(layered_volume(), SharedFunctionalGroupsSequence=[group])).spacing_mm is None

    def test_the_cirrus_error_is_marked_on_cubes_that_are_not_square(self) -> None:
        group = measures([0.00195, 0.0117], 0.0117)
        cube = make_file(layered_volume(6, 20, 15), SharedFunctionalGroupsSequence=[group])
        square = make_file(layered_volume(6, 20, 6), SharedFunctionalGroupsSequence=[group])
        assert read_dicom(cube, ref=reference_for()).notes == Note.SPACING_UNRELIABLE
        assert read_dicom(square, ref=reference_for()).notes == Note.NONE
        triton = reference_for(device="topcon_triton", protocol="triton_macula_6x6")
        assert read_dicom(cube, ref=triton).notes == Note.NONE

    def test_radial_positions_say_nothing_about_order(self) -> None:
        frames = []
        for angle in np.linspace(0, np.pi, 6, endpoint=False):
            position = Dataset()
            position.ImagePositionPatient = [round(float(np.cos(angle)), 4), round(float(np.sin(angle)), 4), 0]
            frames.append(Dataset())
            frames[-1].PlanePositionSequence = [position]
        volume = read_dicom(make_file(layered_volume(6), PerFrameFunctionalGroupsSequence=frames))
        assert volume.notes == Note.NO_SPACING


class TestEyeAndNotes:
    def test_the_file_and_the_key_disagree(self) -> None:
        data = make_file(layered_volume(), ImageLaterality="L", PixelSpacing=[1, 2])
        volume = read_dicom(data, ref=reference_for(Eye.RIGHT))
        assert volume.eye == Eye.LEFT
        assert volume.notes == Note.EYE_DISAGREES
        assert read_dicom(data, ref=reference_for(Eye.LEFT)).notes == Note.NONE

    def test_the_eye_may_hide_in_a_functional_group(self) -> None:
        anatomy, group = Dataset(), Dataset()
        anatomy.FrameLaterality = "L"
        group.FrameAnatomySequence = [anatomy]
        data = make_file(layered_volume(), SharedFunctionalGroupsSequence=[group])
        assert read_dicom(data).eye == Eye.LEFT

    @pytest.mark.parametrize("laterality", ["B", "", "U"])
    def test_no_eye_never_disagrees(self, laterality: str) -> None:
        volume = read_dicom(make_file(layered_volume(), ImageLaterality=laterality), ref=reference_for())
        assert volume.eye == Eye.UNKNOWN
        assert Note.EYE_DISAGREES not in volume.notes

    @pytest.mark.parametrize("keyword", ["SeriesDescription", "ImageComments", "Manufacturer"])
    def test_a_phantom_says_so(self, keyword: str) -> None:
        data = make_file(layered_volume(), PixelSpacing=[1, 2], **{keyword: "Synthetic Phantom, no person"})
        assert read_dicom(data).notes == Note.SYNTHETIC

    def test_an_unknown_protocol_is_kept(self) -> None:
        data = make_file(layered_volume(), PixelSpacing=[1, 2])
        ref = replace(reference_for(protocol="cirrus_new"), key=f"{AI_READI_FOLDER}zeiss_cirrus/k.dcm")
        volume = read_dicom(data, ref=ref)
        assert (volume.protocol, volume.notes) == ("cirrus_new", Note.UNKNOWN_PROTOCOL)

    def test_the_row_is_told_the_whole_scan(self) -> None:
        data = make_file(layered_volume(9), ImageLaterality="R", PixelSpacing=[0.5, 0.25], SpacingBetweenSlices=2)
        facts = read_dicom(data, frames=every_other).facts
        assert (facts.frames, facts.rows, facts.columns, facts.spacing_mm) == (9, 40, 36, (2.0, 0.5, 0.25))
        assert facts.eye == Eye.RIGHT


class TestPrivacy:
    def test_no_element_of_a_patient_is_on_the_list(self) -> None:
        assert not [name for name in ALLOWED if "Patient" in name and name != "ImagePositionPatient"]
        named = set(ALLOWED) - {"SOPClassUID"}  # the kind of object, no instance
        assert not [name for name in named if name.endswith(("UID", "ID", "Date", "Time"))]

    def test_nothing_of_the_patient_or_instance_leaves_the_reader(self) -> None:
        secret = {"PatientName": "DOE^JANE", "PatientID": "4711", "PatientBirthDate": "19500101"}
        dataset = make_dataset(layered_volume(), **secret)
        volume = read_dicom(to_bytes(dataset), ref=reference_for())
        said = repr(volume)
        with pytest.raises(VolumeError) as caught:
            read_dicom(to_bytes(dataset)[:-100], ref=reference_for())
        for text in (*secret.values(), str(dataset.SOPInstanceUID)):
            assert text not in said
            assert text not in str(caught.value)
        assert "00c0ffee00c0ffee" in str(caught.value)

    def test_only_listed_elements_are_parsed(self) -> None:
        data = make_file(layered_volume(), PatientName="DOE^JANE", StudyDescription="x")
        elements = header_module.read_header(data, "file").elements
        assert {element.keyword for element in elements} <= set(ALLOWED)
