"""Preprocessed volumes on disk: exact or rounded as asked, checked, never mixed up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE, scans

from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Eye, Intensity, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from extract.bucket.folder import FolderSource
from extract.encoder.random_init import random_encoder
from extract.load import LoadedVolume, new_loader
from extract.preset import PRESETS, Recipe
from extract.stages import StageClock
from finetune.data.images import ImageCache, from_levels, to_levels

REF = VolumeRef("a.dcm", 10, "etag", volume_id("a.dcm"), ParticipantId("1001"), Eye.LEFT, "device", "protocol")
LINE = IndexRow(3, REF)


@pytest.fixture
def volume() -> LoadedVolume:
    image = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    seen = Intensity(50.0, 20.0, 1.0, 45.0, 200.0)
    facts = RowFacts(61, 496, 768, (0.1, 0.2, 0.3), Eye.RIGHT, Note.SYNTHETIC | Note.NO_SPACING, intensity=seen)
    return LoadedVolume(LINE, image, facts, b"", 10)


def test_a_volume_comes_back_exactly_in_float32(tmp_path: Path, volume: LoadedVolume) -> None:
    ImageCache(tmp_path / "new", "recipe", "float32").write(volume)
    later = ImageCache(tmp_path / "new", "recipe", "float32")
    kept = later.read(LINE)
    assert kept is not None
    assert (kept.image == volume.image).all()
    assert (kept.line, kept.facts.notes, kept.facts.frames) == (LINE, volume.facts.notes, 61)
    assert kept.facts.intensity == volume.facts.intensity
    assert (later.stack([REF.volume, REF.volume]) == np.stack([volume.image] * 2)).all()


def test_uint8_rounds_to_half_a_level_and_gives_the_same_ever_after(tmp_path: Path, volume: LoadedVolume) -> None:
    images = ImageCache(tmp_path, "recipe")
    first = images.write(volume).image
    span = float(volume.image.max() - volume.image.min())
    assert 0 < np.abs(first - volume.image).max() <= span / 510 * 1.001
    kept = ImageCache(tmp_path, "recipe").read(LINE)
    assert kept is not None
    assert (kept.image == first).all()
    assert (images.image(REF.volume) == first).all()
    assert next(tmp_path.iterdir()).stat().st_size < volume.image.nbytes / 4 + 2000


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_constant_volume_survives_rounding(value: float) -> None:
    image = np.full((1, 2, 4, 4), value, np.float32)
    assert (from_levels(*to_levels(image)) == image).all()


def test_rounding_hardly_changes_what_the_encoder_says(phantom: Path) -> None:
    """Ten times nearer than what bf16 arithmetic may do to a pooled vector (a cosine of 0.999)."""
    encoder = random_encoder("random:tiny", IMAGE_SIZE)
    load = new_loader(FolderSource(phantom), Recipe(PRESETS["pretrain"], IMAGE_SIZE), StageClock())
    worst = 1.0
    for path in scans(phantom, "val")[:4]:
        key = path.relative_to(phantom).as_posix()
        loaded = load(IndexRow(0, replace(REF, key=key, size=path.stat().st_size, etag="")))
        assert isinstance(loaded, LoadedVolume)
        both = np.concatenate([loaded.image[None], from_levels(*to_levels(loaded.image))[None]])
        exact, rounded = encoder.module(torch.from_numpy(both))["last"].mean(1)
        worst = min(worst, float(torch.cosine_similarity(exact, rounded, dim=0)))
    assert worst > 0.9999


@pytest.mark.parametrize("change", [{"etag": "other"}, {"size": 11}, {"key": "b.dcm"}])
def test_another_object_is_not_taken_for_it(tmp_path: Path, volume: LoadedVolume, change: dict[str, object]) -> None:
    images = ImageCache(tmp_path, "recipe")
    images.write(volume)
    assert images.read(IndexRow(3, replace(REF, **change))) is None  # type: ignore[arg-type]
    assert ImageCache(tmp_path, "other recipe").read(LINE) is None
    assert ImageCache(tmp_path, "recipe", "float32").read(LINE) is None


@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_damage_is_found(tmp_path: Path, volume: LoadedVolume, place: float) -> None:
    images = ImageCache(tmp_path, "recipe", "float32")
    images.write(volume)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    middle = int(place * len(data))
    data[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert ImageCache(tmp_path, "recipe", "float32").read(LINE) is None
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
