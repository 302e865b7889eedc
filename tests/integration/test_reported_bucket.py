"""Files as the world writes them, through the command: each ends as the table of kinds says, in parts and whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from reported_files import NOTED

import extract.partial.reader as reader_module
from embeddings_store.reader import open_reader
from embeddings_store.schema import Note

LAYOUT = "retinal_oct/structural_oct/zeiss_cirrus"
REFUSED = {
    "c34_fa_movie": ("NotStructuralOct", "of modality OP"),
    "c34_octa_flow": ("NotStructuralOct", "of modality OPTBSV"),
    "c34_seg": ("NotStructuralOct", "Segmentation Storage"),
    "c34_us": ("NotStructuralOct", "of modality US"),
    "c75_truncated_jpeg_frame": ("UndecodablePixels", "frame 5 cannot be decoded"),
    "c77_truncated_jll_frame": ("UndecodablePixels", "frame 5 cannot be decoded"),
}
PART = "c35b_concatenation_2of2"
UNREMARKABLE = Note.SYNTHETIC | Note.NO_SPACING | Note.SPACING_UNRELIABLE | Note.EYE_DISAGREES | Note.MD5_UNCHECKED


@pytest.fixture
def bucket(tmp_path: Path, reference: Path) -> dict[str, str]:
    """Every reported file in a folder of its own, the two parts of one volume in the same: {key: name}."""
    keys = {}
    for number, path in enumerate(sorted((reference / "dicom_reports").glob("*.dcm"))):
        person = 1000 + (number - 1 if path.stem == PART else number)
        key = f"{LAYOUT}/{person}/{person}_cirrus_mac_oct_r_1.2.{number + 1}.dcm"
        (tmp_path / "eye" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "eye" / key).write_bytes(path.read_bytes())
        keys[key] = path.stem
    return keys


def run(command: Command, folder: Path, mode: str, depth: int) -> Any:
    return command(
        *("extract-embeddings", "--bucket", folder / "eye", "--store", folder / mode, "--encoder", "random:tiny"),
        *("--image-size", f"{depth},32,32", "--tokens", "none", "--device", "cpu", "--partial-reads", mode, "--json"),
    )


def ends(store: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """How each file ended, by name: (pooled, facts), an error's (class, message), or the key of the first part."""
    reader = open_reader(str(store))
    index = reader.index()
    keys, rows = index.set_index("volume")["key"], index["row"][reader.committed()].tolist()
    facts, vectors = reader.facts(rows), reader.pooled(rows)
    found: dict[str, Any] = {
        names[index["key"][row]]: (pooled, facts.loc[row]) for row, pooled in zip(rows, vectors, strict=True)
    }
    for record in reader.quarantined():
        failure = record.failure
        found[names[index["key"][record.row]]] = (
            keys[failure.whole] if failure.whole else (failure.error, failure.message)
        )
    return found


def test_every_reported_file_ends_as_it_should(
    tmp_path: Path, bucket: dict[str, str], command: Command, reference: Path
) -> None:
    done = run(command, tmp_path, "off", 8)
    assert done.code == 3, done.stderr
    summary = json.loads(done.stdout)
    counts = (summary["selected"], summary["committed"], sum(summary["errors"].values()), summary["parts"])
    assert counts == (len(bucket), len(bucket) - len(REFUSED) - 1, len(REFUSED), 1)

    found = ends(tmp_path / "off", bucket)
    assert bucket[found.pop(PART)] == "c35_concatenation_1of2"
    assert {name for name, end in found.items() if isinstance(end[0], str)} == set(REFUSED)
    for name, end in found.items():
        if name in REFUSED:
            kind, words = REFUSED[name]
            assert (end[0], words in end[1]) == (kind, True), end
        else:
            assert Note(int(end[1]["notes"])) & ~UNREMARKABLE == NOTED.get(name, Note.NONE), name
            truth = reference / "dicom_reports" / f"{name}.npy"
            assert end[1]["frames"] == (len(np.load(truth)) if truth.exists() else 12), name


def test_parts_and_whole_files_give_the_same_rows_and_errors(
    tmp_path: Path, bucket: dict[str, str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("HEAD_BYTES", 2048), ("GAP_BYTES", 0), ("MOST_SHARE", 1.0), ("TRIES", 1000)):
        monkeypatch.setattr(reader_module, name, value)  # these files are small
    whole, parts = (run(command, tmp_path, mode, 4) for mode in ("off", "on"))  # two thirds of the frames are needed
    assert (whole.code, parts.code) == (3, 3), parts.stderr
    assert parts.json["partial_reads"]["volumes"] > 10
    assert {name: whole.json[name] for name in ("committed", "errors", "parts")} == {
        name: parts.json[name] for name in ("committed", "errors", "parts")
    }

    one, other = ends(tmp_path / "off", bucket), ends(tmp_path / "on", bucket)
    assert one.keys() == other.keys()
    for name, end in one.items():
        if isinstance(end, str) or isinstance(end[0], str):
            assert end == other[name]
            continue
        (pooled, facts), (pooled_too, facts_too) = end, other[name]
        np.testing.assert_array_equal(pooled, pooled_too, err_msg=name)
        assert facts.drop("notes").equals(facts_too.drop("notes")), name
        assert int(facts["notes"]) == int(facts_too["notes"]) & ~Note.MD5_UNCHECKED, name
