"""What was noticed about volumes: counted at the end of a run, counted and listed by status."""

from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from dicom_files import layered_volume, make_file, measures
from small_bucket import IMAGE_SIZE, key_of

from embeddings_store.schema import volume_id

KNOWN = {"SharedFunctionalGroupsSequence": [measures([0.004, 0.012], 0.12)], "Modality": "OPT"}
CASES: list[dict[str, Any]] = [KNOWN, {"Modality": "OPT"}, KNOWN | {"Modality": "XX"}, {"Modality": "XX"}]
"""The second and fourth have no spacing, the last two a modality that contradicts their class."""


@pytest.fixture
def run(tmp_path: Path, command: Command) -> Any:
    for number, told in enumerate(CASES):
        path = tmp_path / "eye" / key_of(number)
        path.parent.mkdir(parents=True)
        path.write_bytes(make_file(layered_volume(12, 40, 36, seed=number), **told))

    def extract(*more: object) -> Any:
        return command(
            *("extract-embeddings", "--bucket", tmp_path / "eye", "--store", tmp_path / "store", "--device", "cpu"),
            *("--encoder", "random:tiny", "--image-size", IMAGE_SIZE, "--tokens", "none", "--json", *more),
        )

    return extract


def test_a_run_ends_with_a_line_for_each_note_of_what_it_encoded(run: Any) -> None:
    first, rest, again = run("--limit", 1), run(), run()

    assert first.json["volume_notes"] == []
    assert rest.json["volume_notes"] == [
        {"note": "NO_SPACING", "rows": 2, "example": volume_id(key_of(1))},
        {"note": "KIND_UNKNOWN", "rows": 2, "example": volume_id(key_of(2))},
    ]
    assert f"note NO_SPACING: 2 of the volumes encoded now, such as {volume_id(key_of(1))}\n" in rest.stderr
    assert f"note KIND_UNKNOWN: 2 of the volumes encoded now, such as {volume_id(key_of(2))}\n" in rest.stderr
    assert again.json["volume_notes"] == []
    assert ".dcm" not in rest.stderr, "names of files carry UIDs"


def test_status_counts_and_lists_notes(run: Any, tmp_path: Path, command: Command) -> None:
    run()
    status = ("extract-embeddings", "status", "--store", tmp_path / "store", "--notes")

    table = command(*status)
    lines = [line.split() for line in table.stdout.splitlines()]
    assert ["NO_SPACING", "2", volume_id(key_of(1))] in lines
    assert command(*status, "--json").json["notes"][0] == {
        "note": "NO_SPACING",
        "rows": 2,
        "example": volume_id(key_of(1)),
    }

    assert command(*status, "kind-unknown").stdout.splitlines() == [volume_id(key_of(number)) for number in (2, 3)]
    listed = command(*status, "NO_SPACING", "--json").json
    assert [volume["key"] for volume in listed["volumes"]] == [key_of(1), key_of(3)]
    assert command(*status, "CONSTANT").stdout == "no volume has the note CONSTANT\n"

    unknown = command(*status, "NO_SPACE")
    assert (unknown.code, "expected one of NO_SPACING" in unknown.stderr) == (2, True)
    alone = command(*status[:-1], "NO_SPACING")
    assert (alone.code, "--notes" in alone.stderr) == (2, True)
