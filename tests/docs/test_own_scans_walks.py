"""The commands of the page on own scans, typed for three kinds of folders: survey, label, run, judge, read."""

import csv
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import Command, Finished
from markdown_pages import ROOT
from PIL import Image
from pydicom.dataset import FileMetaDataset

PEOPLE = 30
SPLITS = ["train"] * 15 + ["val"] * 7 + ["test"] * 8
SMALL = ("--image-size", "8,32,32", "--tokens", "none", "--device", "cpu")


def voxels_of(number: int) -> np.ndarray:
    """A scan whose deeper half is brighter in every third person."""
    voxels = np.random.default_rng(number).integers(0, 120, (8, 24, 24), dtype=np.uint8)
    voxels[:, 12:] += np.uint8(90 if number % 3 == 0 else 0)
    return voxels


def pictures(folder: Path, number: int) -> None:
    for place, frame in enumerate(voxels_of(number)):
        Image.fromarray(frame).save(folder / f"P{number:02d}_OD_{place}.png")  # all in one folder


def arrays(folder: Path, number: int) -> None:
    dx = np.array("DME" if number % 3 == 0 else "healthy")
    np.savez(folder / f"P{number:02d}_OD.npz", oct=voxels_of(number), diagnosis=dx)


def dicom(folder: Path, number: int) -> None:
    voxels, dataset = voxels_of(number), pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.OphthalmicTomographyImageStorage, f"1.2.3.{number + 1}"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.ImageLaterality = f"Doe^{number}", "R"
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "OPT", 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = voxels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = voxels.tobytes()
    dataset.save_as(folder / f"IM{number:04d}", enforce_file_format=True)


def typed() -> list[list[str]]:
    """Give the commands of the page's blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/own-scans.md").read_text(), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def fill_in() -> None:
    """Do what the page asks of a person: participants, labels and splits, in a spreadsheet."""
    with Path("found.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == PEOPLE
    scans, labels = io.StringIO(), io.StringIO()
    table = csv.DictWriter(scans, list(lines[0]), delimiter="\t")
    table.writeheader()
    labels.write("participant,diagnosis,split\n")
    for number, line in enumerate(lines):  # the survey's order is that of the names
        line["participant"] = line["participant"] or line["scan"][:3]
        table.writerow(line)
        ill = "DME" if number % 3 == 0 else "healthy"
        labels.write(f"{line['participant']},{line.get('diagnosis') or ill},{SPLITS[number]}\n")
    Path("scans.tsv").write_text(scans.getvalue())
    Path("labels.csv").write_text(labels.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "more"),
    [(pictures, ("--pattern", r"(?P<participant>P\d+)_(?P<eye>OD|OS)")), (arrays, ()), (dicom, ())],
)
def test_the_page_typed_from_top_to_bottom(
    make: Callable[[Path, int], None],
    more: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    for number in range(PEOPLE):
        make(Path("scans"), number)

    def run(words: list[str]) -> Finished:
        verb = " ".join(words[:2])
        extra = more if verb == "extract-embeddings survey" else ()
        extra = SMALL if words[0] == "extract-embeddings" and "--encoder" in words else extra
        extra = ("--replicates", "20", "--layer", "last", "--pool", "mean") if verb == "classify probe" else extra
        done = command(*words, *extra)
        assert done.code == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done

    survey, *rest = typed()
    run(survey)
    fill_in()
    for words in rest:
        run(words)
    (trained,) = Path("runs").glob("*linear*")
    run(["classify", "predict", "--run", str(trained), "--store", "./store", "--out", "new.csv"])
    assert len(Path("new.csv").read_text().splitlines()) > PEOPLE
    page = Path("report/study.html").read_text()
    assert "DME" in page
    assert list(Path("report").glob("**/*.html")), "pages of the study and of cases"
    assert not any(b"Doe^" in path.read_bytes() for path in Path("report").rglob("*.html"))
