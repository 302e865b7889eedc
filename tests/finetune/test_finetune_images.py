"""Preprocessed volumes on disk: exact, checked, never mixed up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from extract.load import LoadedVolume
from finetune.images import ImageCache

REF = VolumeRef("a.dcm", 10, "etag", volume_id("a.dcm"), ParticipantId("1001"), Eye.LEFT, "device", "protocol")
LINE = IndexRow(3, REF)


@pytest.fixture
def volume() -> LoadedVolume:
    image = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    facts = RowFacts(61, 496, 768, (0.1, 0.2, 0.3), Eye.RIGHT, Note.SYNTHETIC | Note.NO_SPACING)
    return LoadedVolume(LINE, image, facts, b"", 10)


def test_a_volume_comes_back_exactly(tmp_path: Path, volume: LoadedVolume) -> None:
    ImageCache(tmp_path / "new", "recipe").write(volume)
    later = ImageCache(tmp_path / "new", "recipe")
    kept = later.read(LINE)
    assert kept is not None
    assert (kept.image == volume.image).all()
    assert (kept.line, kept.facts.notes, kept.facts.frames) == (LINE, volume.facts.notes, 61)
    assert (later.stack([REF.volume, REF.volume]) == np.stack([volume.image] * 2)).all()


@pytest.mark.parametrize("change", [{"etag": "other"}, {"size": 11}, {"key": "b.dcm"}])
def test_another_object_is_not_taken_for_it(tmp_path: Path, volume: LoadedVolume, change: dict[str, object]) -> None:
    images = ImageCache(tmp_path, "recipe")
    images.write(volume)
    assert images.read(IndexRow(3, replace(REF, **change))) is None  # type: ignore[arg-type]
    assert ImageCache(tmp_path, "other recipe").read(LINE) is None


@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_damage_is_found(tmp_path: Path, volume: LoadedVolume, place: float) -> None:
    images = ImageCache(tmp_path, "recipe")
    images.write(volume)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    middle = int(place * len(data))
    data[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert ImageCache(tmp_path, "recipe").read(LINE) is None
    with pytest.raises(RunError, match="damaged"):
        images.stack([REF.volume])


def test_a_file_that_went_away_is_an_error(tmp_path: Path, volume: LoadedVolume) -> None:
    images = ImageCache(tmp_path, "recipe")
    images.write(volume)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(RunError, match="gone"):
        images.stack([REF.volume])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, volume: LoadedVolume) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        ImageCache(tmp_path / "file" / "cache", "recipe").write(volume)


def test_too_little_room_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1 preprocessed volumes need [0-9.]+ GB"):
        ImageCache(tmp_path / "not" / "yet", "recipe").require_room([REF], (100_000, 100_000, 100_000))


def test_what_is_kept_already_needs_no_room(tmp_path: Path, volume: LoadedVolume) -> None:
    images = ImageCache(tmp_path, "recipe")
    images.write(volume)
    images.require_room([REF], (100_000, 100_000, 100_000))
