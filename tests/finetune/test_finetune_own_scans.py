"""Fine-tuning, its look at test and its case pages on other layouts: a table of arrays, folders of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetune_study import IMAGE_SIZE, NOW, options, run, table
from PIL import Image

from embeddings_store.index import IndexRow
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.dicom.reader import read_dicom
from extract.layouts.options import LayoutOptions
from extract.load import new_loader
from extract.preset import Recipe
from extract.stages import StageClock
from finetune.data.images import ImageCache
from finetune.evaluate import evaluate
from finetune.options import PRESET, LookOptions
from reports.case import write_cases
from reports.options import CaseOptions


@pytest.fixture(scope="module")
def own(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a clinic has it: arrays with columns first and a table; folders of pictures; codes of people."""
    root = tmp_path_factory.mktemp("own")
    (root / "arrays").mkdir()
    lines = ["file,participant,eye"]
    for ref in list_volumes(FolderSource(phantom)).refs:
        voxels = read_dicom((phantom / ref.key).read_bytes()).voxels
        name = f"P-{ref.participant}_{ref.eye}"
        np.save(root / "arrays" / f"{name}.npy", np.ascontiguousarray(voxels.transpose(2, 1, 0)))
        lines.append(f"{name}.npy,P-{ref.participant},{ref.eye}")
        (root / "pictures" / name).mkdir(parents=True)
        for number, frame in enumerate(voxels):
            Image.fromarray(frame).save(root / "pictures" / name / f"{number}.png")
    (root / "scans.csv").write_text("\n".join(lines) + "\n")
    people = table(phantom)
    people["participant_id"] = "P-" + people["participant_id"]
    people.to_csv(root / "participants.tsv", sep="\t", index=False)
    return root


def layouts(own: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    return {
        "arrays": (own / "arrays", {"scans": own / "scans.csv", "axes": ("columns", "rows", "frames")}),
        "pictures": (own / "pictures", {"pattern": r"(?P<participant>P-\d+)_(?P<eye>[LR])"}),
    }


def inputs(root: Path, layout: dict[str, Any]) -> dict[tuple[str, str], np.ndarray]:
    """What fine-tuning sees of each eye."""
    source = FolderSource(root)
    source.layout = LayoutOptions(**layout)
    load = new_loader(source, Recipe(PRESET, IMAGE_SIZE), StageClock())
    return {
        (ref.participant.removeprefix("P-"), str(ref.eye)): load(IndexRow(0, ref)).image  # type: ignore[union-attr]
        for ref in list_volumes(source).refs
    }


def test_own_scans_are_learned_from_looked_at_and_shown(phantom: Path, own: Path, tmp_path: Path) -> None:
    people, expected = own / "participants.tsv", inputs(phantom, {})
    for name, (bucket, layout) in layouts(own).items():
        seen = inputs(bucket, layout)
        assert seen.keys() == expected.keys()
        assert all(np.array_equal(seen[key], image) for key, image in expected.items())
        done = run(bucket, tmp_path / name, participants=people, stages=("head",), **layout)
        assert done.failures == {}
        words: dict[str, Any] = {"bucket": str(bucket), **layout}
        asked = LookOptions(run=done.folder, participants=people, device="cpu", replicates=20, split="test", **words)
        assert evaluate(asked, now=NOW, tell=lambda line: None).looks == 1
        pages = CaseOptions(runs=tmp_path / name, out=tmp_path / f"{name}-pages", run=done.record.id, **words)
        assert all("<img" in case.page.read_text() for case in write_cases(pages, now=NOW))


def test_kept_volumes_are_those_of_one_way_of_reading(own: Path, tmp_path: Path) -> None:
    paths = set()
    for axes in (None, ("columns", "rows", "frames"), ("rows", "columns", "frames")):
        asked = options(own / "arrays", tmp_path, scans=own / "scans.csv", axes=axes)
        source = FolderSource(own / "arrays")
        source.layout = asked
        (ref, *_) = list_volumes(source).refs
        paths.add(ImageCache(tmp_path, "recipe")._path(ref))
    assert len(paths) == 3
