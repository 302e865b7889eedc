"""The page on own scans, typed again with a table that was sorted: numbers keep their people, or it is said."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import Command, Finished
from markdown_pages import ROOT, read_page
from pydicom.dataset import FileMetaDataset

PEOPLE = 36
SPLITS = ["train"] * 18 + ["val"] * 9 + ["test"] * 9
ILL = "insulin_dependent"


def write_scan(path: Path, number: int, brightness: int) -> None:
    """A scan of its own, whose deeper half is the brighter the iller."""
    voxels = np.random.default_rng(number).integers(0, 120, (8, 24, 24), dtype=np.uint8)
    voxels[:, 12:] += np.uint8(brightness)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.OphthalmicTomographyImageStorage, f"1.2.3.{number + 1}"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "OPT", 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = voxels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = voxels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def lay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the folder that the page starts with; give what runs its script there."""
    monkeypatch.chdir(tmp_path)
    (script,) = [block for block in read_page(ROOT / "docs" / "own-scans.md").blocks if block.title == "lay_out.py"]
    Path("lay_out.py").write_text(script.text)
    Path("scans").mkdir()
    scans, people = (
        ["file\tparticipant\teye\tdevice\tprotocol"],
        ["participant\tclinical_site\tstudy_group\tage\trecommended_split"],
    )
    for number, split in enumerate(SPLITS):
        ill = number % 3 == 0
        write_scan(Path("scans") / f"{number}.dcm", number, 90 if ill else 0)
        scans.append(f"{number}.dcm\tP-{number:03d}\tr\tzeiss_cirrus\tcirrus_mac")
        people.append(f"P-{number:03d}\tOurclinic\t{ILL if ill else 'healthy'}\t60\t{split}")
    Path("scans.tsv").write_text("\n".join(scans) + "\n")
    Path("people.tsv").write_text("\n".join(people) + "\n")

    def run() -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "lay_out.py"], check=True, env=environment)

    return run


def sort_people() -> None:
    """Put the people in another order, as a spreadsheet does that sorts a column."""
    header, *lines = Path("people.tsv").read_text().splitlines()
    lines.sort(key=lambda line: sha256(line.encode()).hexdigest())
    Path("people.tsv").write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def probe(command: Command) -> Callable[..., Finished]:
    def run(*more: str) -> Finished:
        given = ("--store", "store", "--participants", "bucket/participants.tsv", "--task", "healthy-vs-rest", *more)
        plain = ("--layer", "last", "--pool", "mean", "--aggregate", "mean-logits", "--replicates", 20, "--json")
        return command("classify", "probe", "--model", "linear", *given, *plain)

    return run


def extract(command: Command, store: str) -> None:
    line = ("--bucket", "./bucket", "--store", store, "--encoder", "random:tiny", "--image-size", "8,32,32")
    done = command("extract-embeddings", *line, "--tokens", "none", "--device", "cpu")
    assert done.code == 0, done.stderr


def auroc(done: Finished) -> float:
    assert done.code == 0, done.stderr
    return float(done.json["metrics"]["participant"]["val"]["macro_auroc"]["value"])


@pytest.mark.slow
def test_a_table_that_was_sorted_keeps_its_people_or_is_refused(
    lay_out: Callable[[], None], probe: Callable[..., Finished], command: Command
) -> None:
    lay_out()
    extract(command, "store")
    first = probe("--runs", "runs")
    right = auroc(first)
    run = str(Path("runs") / first.json["id"])

    sort_people()
    lay_out()
    again = probe("--runs", "runs")
    assert auroc(again) == right, "ids.tsv keeps the numbers"
    assert again.json["cohort_sha256"] == first.json["cohort_sha256"]

    Path("ids.tsv").unlink()  # as before there was one: numbers are given anew, by the order of the table
    lay_out()
    wrong = probe("--runs", "elsewhere")
    assert auroc(wrong) < right - 0.2, "what a run that remembers nobody cannot see"
    refused = probe("--runs", "runs")
    place = ("--store", "store", "--runs", "runs")
    evaluated = command(
        *("classify", "evaluate", "--run", run, *place, "--participants", "bucket/participants.tsv", "--split", "test")
    )
    compared = command(
        *("classify", "compare", "--run", run, "--run", str(Path("elsewhere") / wrong.json["id"]), "--runs", "runs")
    )
    for done in (refused, evaluated, compared):
        assert done.code == 1, (done.stdout, done.stderr)
        assert re.search("have another number, label|made on the cohort", " ".join(done.stderr.split()))
