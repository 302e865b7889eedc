"""The bucket as a whole: layout, ids, tables, determinism, publishing, broken kinds, command line."""

import csv
import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from embeddings_store.errors import UsageError
from embeddings_store.publish import ASIDE, LOCK, sweep
from embeddings_store.schema import site_of
from extract.phantom import bucket, cli
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.dicom_file import OPHTHALMIC_TOMOGRAPHY, SYNTAXES
from extract.phantom.participants import FLAGS, STUDY_GROUPS, draw_participants
from extract.phantom.plan import Plan, parse_plan
from extract.phantom.scanners import PROTOCOLS, SCANNERS

KEY = re.compile(r"retinal_oct/structural_oct/([a-z0-9_]+)/(\d{4})/(\d{4})_(.+?)_(?:oct_)?oct_([lr])_(2\.25\.\d+)\.dcm")


def plan_of(**changes: object) -> Plan:
    options: dict[str, object] = {
        "participants": 4, "devices": (), "protocols": (), "scale": 0.02, "syntax": "explicit", "effect_um": 0.0,
        "effect_sector": None, "confound": None, "schema": "v2", "manifest": True, "breaks": (),
        "kinds": tuple(KINDS), "seed": 5,
    }  # fmt: skip
    return parse_plan(**(options | changes))  # type: ignore[arg-type]


def make(out: Path, workers: int = 1, **changes: object) -> bucket.Summary:
    return generate(plan_of(**changes), out, workers, lambda: None)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def scans(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.dcm") if not path.name.startswith("."))


def test_a_small_bucket_is_made_by_one_process_and_a_large_one_by_as_many_as_there_are() -> None:
    assert [bucket.count_workers(plan_of(participants=12, scale=scale), 8) for scale in (0.05, 1.0)] == [1, 8]
    assert bucket.count_workers(plan_of(participants=1000, scale=0.05), 8) == 8


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    make(tmp_path / "one", workers=1, devices=("zeiss_cirrus",), breaks=("all",))
    make(tmp_path / "two", workers=2, devices=("zeiss_cirrus",), breaks=("all",))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_other_scans_and_a_subset_of_devices_the_same(tmp_path: Path) -> None:
    make(tmp_path / "all")
    make(tmp_path / "cirrus", devices=("zeiss_cirrus",))
    make(tmp_path / "other", devices=("zeiss_cirrus",), seed=6)
    whole, part, other = (contents(tmp_path / name) for name in ("all", "cirrus", "other"))
    files = [key for key in part if key.endswith(".dcm")]
    assert len(files) == 8
    assert all(part[key] == whole[key] for key in files)
    assert not set(files) & other.keys()


def test_the_layout_is_that_of_ai_readi(tmp_path: Path) -> None:
    summary = make(tmp_path / "b", participants=6)
    found = [KEY.fullmatch(path.relative_to(tmp_path / "b").as_posix()) for path in scans(tmp_path / "b")]
    assert all(found)
    parts = [match.groups() for match in found if match]
    assert summary.files == len(parts) == 6 * 8
    assert {device for device, *_ in parts} == set(SCANNERS)
    assert all(folder == name for _, folder, name, *_ in parts)
    assert all(PROTOCOLS[protocol].device == device for device, _, _, protocol, *_ in parts)
    assert Counter(person[0] for _, person, *_ in parts) == {"1": 16, "4": 16, "7": 16}
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["participants.tsv", "retinal_oct"]


def test_tags_say_synthetic_phantom_and_describe_the_scan(tmp_path: Path) -> None:
    make(tmp_path / "b", participants=1, protocols=("cirrus_mac", "spectralis_onh_rc_hr"))
    for path in scans(tmp_path / "b"):
        dataset = pydicom.dcmread(path)
        match = KEY.fullmatch(path.relative_to(tmp_path / "b").as_posix())
        assert match is not None
        protocol = PROTOCOLS[match[4]].scaled(0.02)
        assert "SYNTHETIC PHANTOM" in dataset.SeriesDescription
        assert "SYNTHETIC PHANTOM" in dataset.ImageComments
        assert (dataset.SOPClassUID, dataset.Modality) == (OPHTHALMIC_TOMOGRAPHY, "OPT")
        assert (dataset.ImageLaterality, dataset.SOPInstanceUID) == (match[5].upper(), match[6])
        assert dataset.Manufacturer == SCANNERS[protocol.device].manufacturer
        assert dataset.pixel_array.shape == (protocol.frames, protocol.rows, protocol.columns)
        shared = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        if protocol.radial:
            frames = dataset.PerFrameFunctionalGroupsSequence
            spacing = [group.PixelMeasuresSequence[0].PixelSpacing for group in frames]
            assert len(frames) == protocol.frames
            assert spacing[0][1] != spacing[-1][1]
            assert len(shared) == 0
            assert not any("SliceThickness" in group.PixelMeasuresSequence[0] for group in frames)
        else:
            expected = [protocol.axial_mm, protocol.lateral_mm]
            assert [float(x) for x in shared[0].PixelSpacing] == pytest.approx(expected, rel=1e-4)
            assert float(shared[0].SliceThickness) == pytest.approx(protocol.frame_mm, rel=1e-4)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_holds_the_same_voxels(tmp_path: Path, syntax: str) -> None:
    for folder, name in (("plain", "explicit"), ("coded", syntax)):
        make(tmp_path / folder, participants=1, devices=("zeiss_cirrus",), syntax=name)
    plain, coded = (scans(tmp_path / folder) for folder in ("plain", "coded"))
    assert [path.name for path in plain] == [path.name for path in coded]
    for one, other in zip(plain, coded, strict=True):
        np.testing.assert_array_equal(pydicom.dcmread(one).pixel_array, pydicom.dcmread(other).pixel_array)
    uids = {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in (plain[0], coded[0])}
    assert len(uids) == (1 if syntax == "explicit" else 2)


@pytest.mark.parametrize(("schema", "column"), [("v2", "participant_id"), ("v3", "person_id")])
def test_tables_have_the_columns_of_their_release(tmp_path: Path, schema: str, column: str) -> None:
    protocols = ("maestro2_3d_macula", "spectralis_onh_rc_hr")
    make(tmp_path / "b", schema=schema, protocols=protocols)
    people = table(tmp_path / "b" / "participants.tsv")
    manifest = table(tmp_path / "b" / "retinal_oct" / "manifest.tsv")
    assert list(people[0])[:2] == [column, "clinical_site"]
    assert tuple(list(people[0])[6:]) == FLAGS
    assert next(iter(manifest[0])) == column
    assert len(manifest[0]) == 15
    assert all(row["clinical_site"] == site_of(row[column]) for row in people)
    files = {f"/{path.relative_to(tmp_path / 'b').as_posix()}" for path in scans(tmp_path / "b")}
    assert {row["filepath"] for row in manifest} == files
    radial = [row for row in manifest if "onh" in row["filepath"]]
    assert {(row["pixel_spacing"], row["slice_thickness"]) for row in radial} == {("Varies by frame", "Not reported")}
    assert any("_oct_oct_" in key for key in files) == (schema == "v3")
    assert any(re.search(r"hr_oct_[lr]_", key) for key in files)


def test_no_manifest_on_request(tmp_path: Path) -> None:
    make(tmp_path / "b", manifest=False, devices=("zeiss_cirrus",))
    assert not (tmp_path / "b" / "retinal_oct" / "manifest.tsv").exists()


@pytest.mark.parametrize("count", [16, 60, 300, 1061])
def test_splits_are_stratified(count: int) -> None:
    people = draw_participants(count, 0, octa=False, site_follows_class=False)
    assert len({person.id for person in people}) == count
    by_split = {split: [p for p in people if p.split == split] for split in ("train", "val", "test")}
    for split in ("val", "test"):
        classes = Counter(person.class_index for person in by_split[split])
        assert len(classes) == 4
        assert max(classes.values()) - min(classes.values()) <= 1
        assert len(by_split[split]) == pytest.approx(0.15 * count, abs=2)
    train = Counter(person.class_index for person in by_split["train"])
    assert train[0] >= train[2] >= train[1] >= train[3] >= 1
    sites = Counter(person.site for person in people)
    assert max(sites.values()) - min(sites.values()) <= 1
    if count >= 300:
        shares = {(s, g): 0 for s in sites for g in range(4)} | Counter((p.site, p.class_index) for p in people)
        assert min(shares.values()) > 0.2 * count / 12


def test_ages_are_plausible_and_hardly_tied_to_the_class() -> None:
    people = draw_participants(1061, 0, octa=False, site_follows_class=False)
    ages, groups = np.array([[p.age, p.class_index] for p in people]).T
    assert ages.min() >= 40
    assert ages.max() <= 85
    assert 0.02 < np.corrcoef(ages, groups)[0, 1] < 0.25


def test_the_site_confound_ties_class_to_site_and_brightness(tmp_path: Path) -> None:
    people = draw_participants(600, 0, octa=False, site_follows_class=True)
    lowest = Counter(person.site for person in people if person.class_index == 0)
    highest = Counter(person.site for person in people if person.class_index == 3)
    assert lowest["UW"] > 3 * lowest["UAB"]
    assert highest["UAB"] > 3 * highest["UW"]
    make(tmp_path / "b", participants=24, devices=("zeiss_cirrus",), confound="site")
    grey: dict[str, list[float]] = {}
    for path in scans(tmp_path / "b"):
        grey.setdefault(site_of(path.parent.name), []).append(float(pydicom.dcmread(path).pixel_array.mean()))
    means = {site: np.mean(values) for site, values in grey.items()}
    assert means["UW"] > means["UCSD"] + 8 > means["UAB"] + 16


def test_the_device_confound_ties_class_to_device(tmp_path: Path) -> None:
    make(tmp_path / "b", participants=20, confound="device")
    group = {row["participant_id"]: row["study_group"] for row in table(tmp_path / "b" / "participants.tsv")}
    seen = Counter((STUDY_GROUPS.index(group[p.parent.name]) >= 2, p.parent.parent.name) for p in scans(tmp_path / "b"))
    first, *_, last = SCANNERS
    assert seen[False, first] > 2 * seen[False, last] > 0
    assert seen[True, last] > 2 * seen[True, first] > 0


def test_a_cohort_of_more_than_a_thousand_has_distinct_ids_at_even_sites() -> None:
    people = draw_participants(2280, 0, octa=False, site_follows_class=False)
    assert len({person.id for person in people}) == 2280
    assert Counter(person.id[0] for person in people) == {"1": 760, "4": 760, "7": 760}


def test_a_folder_with_content_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="new or empty folder"):
        make(tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"keep"}


def test_an_interrupted_generation_publishes_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(plan_of(), tmp_path / "b", 1, stop)
    assert contents(tmp_path / "b") == {}
    left = tmp_path / "b" / f".bucket.12345678{ASIDE}"  # by a killed process
    left.mkdir()
    (left / LOCK).touch()
    (left / "half").write_text("x")
    sweep.cache_clear()  # another process would not know the folder
    make(tmp_path / "b", devices=("zeiss_cirrus",))
    assert (tmp_path / "b" / "participants.tsv").exists()
    assert not left.exists()


def test_participants_tsv_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    rename = Path.rename

    def spy(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", spy)
    make(tmp_path / "b", participants=1, devices=("zeiss_cirrus",))
    assert moved == ["retinal_oct", "participants.tsv"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bucket.Summary]:
    root = tmp_path_factory.mktemp("phantom") / "broken"
    return root, make(root, participants=2, devices=("heidelberg_spectralis",), breaks=("all",))


def one(broken: tuple[Path, bucket.Summary], kind: str) -> Path:
    root, summary = broken
    return root / summary.broken[kind][0]


def test_all_makes_every_kind_and_leaves_the_healthy_alone(broken: tuple[Path, bucket.Summary], tmp_path: Path) -> None:
    root, summary = broken
    assert set(summary.broken) == set(KINDS)
    assert all(summary.broken.values())
    make(tmp_path / "healthy", participants=2, devices=("heidelberg_spectralis",))
    with_breaks, without = contents(root), contents(tmp_path / "healthy")
    assert {key for key in without if key.endswith(".dcm")} <= with_breaks.keys()
    assert all(with_breaks[key] == without[key] for key in without if key.endswith(".dcm"))
    assert summary.files == 4
    assert summary.participants == 4


def test_truncated_native_raises_and_truncated_encapsulated_loses_its_pixels(
    broken: tuple[Path, bucket.Summary],
) -> None:
    with pytest.raises(ValueError, match="less than expected"):
        _ = pydicom.dcmread(one(broken, "truncated-native")).pixel_array
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "PixelData" not in pydicom.dcmread(one(broken, "truncated-encapsulated"))


def test_no_pixeldata(broken: tuple[Path, bucket.Summary]) -> None:
    assert "PixelData" not in pydicom.dcmread(one(broken, "no-pixeldata"))


def test_no_offset_table_is_readable(broken: tuple[Path, bucket.Summary]) -> None:
    dataset = pydicom.dcmread(one(broken, "no-offset-table"))
    assert dataset.PixelData[:8] == b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    assert dataset.pixel_array.shape[0] == dataset.NumberOfFrames


def test_empty_pixelmeasures_is_readable_and_has_no_spacing(broken: tuple[Path, bucket.Summary]) -> None:
    dataset = pydicom.dcmread(one(broken, "empty-pixelmeasures"))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "PixelSpacing" in measures
    assert not measures.PixelSpacing
    assert measures.SliceThickness is None
    assert dataset.pixel_array.std() > 0


def test_cirrus_thickness_repeats_the_lateral_spacing_even_without_cirrus(
    broken: tuple[Path, bucket.Summary],
) -> None:
    dataset = pydicom.dcmread(one(broken, "cirrus-thickness"))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "CIRRUS" in dataset.ManufacturerModelName
    assert measures.SliceThickness == measures.PixelSpacing[1]


def test_per_frame_spacing_is_nowhere_else(broken: tuple[Path, bucket.Summary]) -> None:
    dataset = pydicom.dcmread(one(broken, "per-frame-spacing"))
    assert "PixelMeasuresSequence" not in dataset.SharedFunctionalGroupsSequence[0]
    assert len(dataset.PerFrameFunctionalGroupsSequence) == dataset.NumberOfFrames


def test_frame_count_mismatch(broken: tuple[Path, bucket.Summary]) -> None:
    dataset = pydicom.dcmread(one(broken, "frame-count-mismatch"))
    assert len(dataset.PixelData) >= (dataset.NumberOfFrames + 1) * dataset.Rows * dataset.Columns


def test_duplicate_scan_is_another_object_of_the_same_eye(broken: tuple[Path, bucket.Summary]) -> None:
    again = one(broken, "duplicate-scan")
    stem = again.name.split("_2.25.")[0]
    assert len([path for path in again.parent.iterdir() if path.name.startswith(f"{stem}_2.25.")]) >= 2
    assert pydicom.dcmread(again).pixel_array.std() > 0


def test_flags_and_folders_disagree(broken: tuple[Path, bucket.Summary]) -> None:
    root, summary = broken
    flags = {row["participant_id"]: row["retinal_oct"] for row in table(root / "participants.tsv")}
    ghost = summary.broken["flag-without-folder"][0]
    denied = one(broken, "folder-without-flag").parent.name
    assert flags[ghost] == "TRUE"
    assert not list(root.rglob(f"*/{ghost}"))
    assert flags[denied] == "FALSE"


def test_junk_is_there(broken: tuple[Path, bucket.Summary]) -> None:
    root, summary = broken
    junk = [root / key for key in summary.broken["junk"]]
    assert junk[0].suffix == ".dcm"
    assert junk[0].stat().st_size == 0
    names = {path.name for path in junk}
    assert ".DS_Store" in names
    assert any(name.startswith("._") for name in names)
    assert any(name.endswith(".zip") for name in names)
    assert "junk" not in (root / "retinal_oct" / "manifest.tsv").read_text()


def run_cli(*arguments: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_the_command_prints_one_json_object_and_draws_a_montage(tmp_path: Path) -> None:
    arguments = [
        "--out", str(tmp_path / "b"), "--participants", "1", "--devices", "zeiss_cirrus,topcon_triton", "--scale",
        "0.03", "--montage", str(tmp_path / "m.png"), "--workers", "1", "--seed", "3", "--break", "junk", "--json",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "extract.phantom.cli", *arguments], capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["files"] == 4
    assert summary["seed"] == 3
    assert list(summary["broken"]) == ["junk"]
    assert summary["bytes"] == sum(len(content) for content in contents(tmp_path / "b").values())
    picture = (tmp_path / "m.png").read_bytes()
    assert picture[1:4] == b"PNG"
    assert b"SYNTHETIC PHANTOM" in picture


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--devices", "zeiss"], "--devices: expected one of heidelberg_spectralis"),
        (["--protocols", "cirrus"], "--protocols"),
        (["--devices", "zeiss_cirrus", "--protocols", "triton_3d_radial"], "belongs to zeiss_cirrus"),
        (["--syntax", "htj2k"], "--syntax: expected one of explicit"),
        (["--scale", "0"], "--scale"),
        (["--effect", "-1"], "--effect"),
        (["--effect-sector", "centre"], "--effect-sector"),
        (["--effect", "3", "--effect-sector", "left"], "--effect-sector: expected one of centre"),
        (["--confound", "age"], "--confound: expected one of site, device"),
        (["--confound", "device", "--devices", "zeiss_cirrus"], "at least two devices"),
        (["--break", "everything"], "--break"),
        (["--break", "all,junk"], "--break"),
        (["--schema", "v4"], "--schema"),
        (["--participants", "0"], "--participants"),
        (["--participants", "3000"], "--participants"),
        (["--montage", "/nowhere/at/all/m.png"], "--montage"),
    ],
)
def test_wrong_usage_is_one_message_and_writes_nothing(tmp_path: Path, arguments: list[str], says: str) -> None:
    given = arguments if "--participants" in arguments else ["--participants", "1", *arguments]
    code, stdout, error = run_cli("--out", str(tmp_path / "b"), *given)
    assert code != 0
    assert isinstance(error, UsageError)
    assert says in str(error)
    assert stdout == ""
    assert not (tmp_path / "b").exists()


def test_the_help_names_every_kind_syntax_and_is_light() -> None:
    code = (
        "import sys; import extract.phantom.cli; print([m for m in ('numpy', 'pydicom', 'scipy') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert loaded.stdout.strip() == "[]"
    assert all(kind in cli.BREAK_HELP for kind in KINDS)
    assert all(syntax in cli.SYNTAX_HELP for syntax in SYNTAXES)
