"""From pictures and archives of one's own to a judged probe, as a person types it."""

from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from PIL import Image

GROUPS = ("healthy", "insulin_dependent")
PEOPLE = 40


def write_scan(folder: Path, kind: str, number: int, seed: int) -> str:
    """Write a scan whose layers lie deeper in every second person; give its line in the table."""
    random = np.random.default_rng(seed)
    voxels = random.integers(0, 60, (8, 40, 48), dtype=np.uint8)
    voxels[:, 10 + 10 * (number % 2) : 16 + 10 * (number % 2)] += 150
    if kind == "npz":
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{number}.npz", oct=voxels, age=np.array(60))
        return f"{number}.npz"
    (folder / f"P{number}").mkdir(parents=True)
    for frame, pixels in enumerate(voxels):
        Image.fromarray(pixels).save(folder / f"P{number}" / f"{frame}.png")
    return f"P{number}/*.png"


@pytest.mark.parametrize("kind", ["pictures", "npz"])
def test_scans_of_ones_own_are_surveyed_encoded_and_judged(kind: str, tmp_path: Path, command: Command) -> None:
    bucket, store, scans, people = (tmp_path / name for name in ("bucket", "store", "scans.csv", "people.csv"))
    lines, labels = ["file,participant,eye"], ["participant_id,clinical_site,study_group,age,recommended_split"]
    for number in range(PEOPLE):
        lines.append(f"{write_scan(bucket, kind, number, number)},P-{number:03d},OD")
        split = "test" if number % 10 > 7 else "val" if number % 10 > 5 else "train"
        labels.append(f"P-{number:03d},Basel,{GROUPS[number % 2]},{50 + number % 7},{split}")
    scans.write_text("\n".join(lines) + "\n")
    people.write_text("\n".join(labels) + "\n")
    found = command("extract-embeddings", "survey", "--bucket", bucket, "--out", tmp_path / "found.csv", "--json")
    assert (found.code, found.json["volumes"], found.json["layout"]) == (0, PEOPLE, "folder")
    words = ("--bucket", bucket, "--scans", scans, "--store", store, "--encoder", "random:tiny", "--device", "cpu")
    planned = command("extract-embeddings", *words, "--image-size", "8,32,32", "--dry-run", "--json")
    assert (planned.code, planned.json["selected"], planned.json["refusal"]) == (0, PEOPLE, None)
    made = command("extract-embeddings", *words, "--image-size", "8,32,32", "--tokens", "none", "--json")
    assert (made.code, made.json["committed"], made.json["errors"]) == (0, PEOPLE, {}), made.stderr
    status = command("extract-embeddings", "status", "--store", store, "--json")
    assert (status.json["participants"], status.json["coverage"]["site"].keys()) == (PEOPLE, {"unknown"})
    assert command("extract-embeddings", "errors", "--store", store, "--json").json == {"errors": []}
    looked = command(
        "extract-embeddings", "doctor", "--bucket", bucket, "--scans", scans, "--image-size", "8,32,32", "--json"
    )
    assert "4 of 4 sample volumes came through" in looked.stderr
    judged = command(
        "classify", "probe", "--model", "linear", "--store", store, "--participants", people, "--task",
        "insulin-vs-rest", "--runs", tmp_path / "runs", "--replicates", 50, "--json",
    )  # fmt: skip
    assert judged.code == 0, judged.stderr
