"""A key names a volume, or says why it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings_store.schema import Eye, VolumeRef, site_of, volume_id
from extract.bucket.source import ObjectInfo
from extract.layouts.ai_readi import PROTOCOLS, parse_object
from extract.layouts.contract import Skip

DEVICES = ["heidelberg_spectralis", "topcon_triton", "topcon_maestro2", "zeiss_cirrus", "some_new_device"]
ROOT = "retinal_oct/structural_oct/topcon_triton"

participants = st.builds(lambda site, number: f"{site}{number:03d}", st.sampled_from("147"), st.integers(0, 999))
uids = st.lists(st.one_of(participants, st.integers(0, 10**12).map(str)), min_size=1, max_size=8).map(
    lambda parts: "2.25." + ".".join(parts)
)
protocols = st.sampled_from([*sorted(PROTOCOLS), "new_protocol", "x", "oct_like"])


def parse(key: str, size: int = 10) -> VolumeRef | Skip:
    return parse_object(ObjectInfo(key, size, "e"))


class TestVolumes:
    @given(participants, st.sampled_from(DEVICES), protocols, st.sampled_from("lr"), uids, st.booleans())
    def test_what_was_written_is_read(
        self, participant: str, device: str, protocol: str, eye: str, uid: str, doubled: bool
    ) -> None:
        token = "oct_oct" if doubled else "oct"
        key = f"retinal_oct/structural_oct/{device}/{participant}/{participant}_{protocol}_{token}_{eye}_{uid}.dcm"
        ref = parse(key)
        assert ref == VolumeRef(key, 10, "e", volume_id(key), participant, Eye(eye.upper()), device, protocol)  # type: ignore[arg-type]
        assert site_of(ref.participant) in {"UW", "UCSD", "UAB"}

    def test_four_digits_in_a_uid_are_no_participant(self) -> None:
        ref = parse(f"{ROOT}/7123/7123_triton_macula_6x6_oct_r_1.2.1001.4002.7003.dcm")
        assert isinstance(ref, VolumeRef)
        assert ref.participant == "7123"

    def test_a_manifest_knows_no_size(self) -> None:
        assert isinstance(parse(f"{ROOT}/1001/1001_triton_3d_radial_oct_l_1.2.dcm", size=-1), VolumeRef)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("participants.tsv", Skip.TABLE),
        ("retinal_oct/manifest.tsv", Skip.TABLE),
        ("clinical_data/measurement.csv", Skip.TABLE),
        (".DS_Store", Skip.HIDDEN),
        (f"{ROOT}/1001/._1001_triton_3d_radial_oct_l_1.2.dcm", Skip.HIDDEN),
        (f"{ROOT}/1001.zip", Skip.NOT_DICOM),
        (f"{ROOT}/1001/", Skip.FOLDER),
        (f"{ROOT}/1001_triton_3d_radial_oct_l_1.2.dcm", Skip.LAYOUT),
        (f"{ROOT}/1001/1002_triton_3d_radial_oct_l_1.2.dcm", Skip.LAYOUT),
        (f"{ROOT}/10010/10010_triton_3d_radial_oct_l_1.2.dcm", Skip.LAYOUT),
        (f"{ROOT}/1001/1001_triton_3d_radial_oct_b_1.2.dcm", Skip.LAYOUT),
        (f"{ROOT}/1001/deeper/1001_triton_3d_radial_oct_l_1.2.dcm", Skip.LAYOUT),
        ("retinal_photography/cfp/x/1001/1001_x_oct_l_1.2.dcm", Skip.LAYOUT),
        (f"{ROOT}/١٠٠١/١٠٠١_triton_3d_radial_oct_l_1.2.dcm", Skip.LAYOUT),
    ],
)
def test_everything_else_has_its_reason(key: str, reason: Skip) -> None:
    assert parse(key) == reason


def test_an_empty_object_is_no_volume() -> None:
    assert parse(f"{ROOT}/1001/1001_triton_3d_radial_oct_l_1.2.dcm", size=0) == Skip.EMPTY
