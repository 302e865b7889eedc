"""The page on own scans, typed again with a table that was sorted: numbers keep their people, or it is said."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import Command, Finished
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
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folder that the page ends its second step with: scans, and the two tables."""
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    scans, people = ["file\tparticipant\teye"], ["participant_id\tclinical_site\tstudy_group\tage\trecommended_split"]
    for number, split in enumerate(SPLITS):
        ill = number % 3 == 0
        write_scan(Path("scans") / f"{number}.dcm", number, 90 if ill else 0)
        scans.append(f"{number}.dcm\tP-{number:03d}\tR")
        people.append(f"P-{number:03d}\tOurclinic\t{ILL if ill else 'healthy'}\t60\t{split}")
    Path("scans.tsv").write_text("\n".join(scans) + "\n")
    Path("people.tsv").write_text("\n".join(people) + "\n")


def sort_lines(name: str) -> None:
    """Put the lines of a table in another order, as a spreadsheet does that sorts a column."""
    header, *lines = Path(name).read_text().splitlines()
    lines.sort(key=lambda line: sha256(line.encode()).hexdigest())
    Path(name).write_text("\n".join([header, *lines]) + "\n")


def sort_one_column() -> None:
    """Sort the participants of the scans without the rest of their lines: each scan gets another name."""
    header, *lines = Path("scans.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in lines]
    names = sorted((name for _, name, _ in cells), key=lambda name: sha256(f"{name}!".encode()).hexdigest())
    renamed = ["\t".join((file, name, eye)) for (file, _, eye), name in zip(cells, names, strict=True)]
    Path("scans.tsv").write_text("\n".join([header, *renamed]) + "\n")


@pytest.fixture
def probe(command: Command) -> Callable[..., Finished]:
    def run(store: str, *more: str) -> Finished:
        given = ("--store", store, "--participants", "people.tsv", "--task", "healthy-vs-rest", *more)
        plain = ("--layer", "last", "--pool", "mean", "--aggregate", "mean-logits", "--replicates", 20, "--json")
        return command("classify", "probe", "--model", "linear", *given, *plain)

    return run


def extract(command: Command, store: str) -> None:
    line = ("--bucket", "./scans", "--scans", "scans.tsv", "--store", store, "--encoder", "random:tiny")
    done = command("extract-embeddings", *line, "--image-size", "8,32,32", "--tokens", "none", "--device", "cpu")
    assert done.code == 0, done.stderr


def auroc(done: Finished) -> float:
    assert done.code == 0, done.stderr
    return float(done.json["metrics"]["participant"]["val"]["macro_auroc"]["value"])


@pytest.mark.slow
@pytest.mark.usefixtures("clinic")
def test_a_table_that_was_sorted_keeps_its_people_or_is_refused(
    probe: Callable[..., Finished], command: Command
) -> None:
    extract(command, "store")
    first = probe("store", "--runs", "runs")
    right = auroc(first)
    run = str(Path("runs") / first.json["id"])

    sort_lines("people.tsv")
    sort_lines("scans.tsv")
    extract(command, "store")
    again = probe("store", "--runs", "runs")
    assert auroc(again) == right
    assert again.json["cohort_sha256"] == first.json["cohort_sha256"]

    sort_one_column()
    extract(command, "renamed")
    wrong = probe("renamed", "--runs", "elsewhere")
    assert auroc(wrong) < right - 0.2, "what a run that remembers nobody cannot see"
    refused = probe("renamed", "--runs", "runs")
    place = ("--store", "renamed", "--runs", "runs")
    evaluated = command(
        *("classify", "evaluate", "--run", run, *place, "--participants", "people.tsv", "--split", "test")
    )
    compared = command(
        *("classify", "compare", "--run", run, "--run", str(Path("elsewhere") / wrong.json["id"]), "--runs", "runs")
    )
    for done in (refused, evaluated, compared):
        assert done.code == 1, (done.stdout, done.stderr)
        assert re.search("have another number, label|made on the cohort", " ".join(done.stderr.split()))
