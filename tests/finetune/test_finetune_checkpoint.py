"""A published model reads back as the one that was judged."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE, SHORT, TINY, run, scans

from classify.errors import RunFolderError
from classify.run.folder import Run, load_run
from classify.run.predictions import pick_predictions
from embeddings_store.schema import volume_id
from extract.dicom.reader import read_dicom
from extract.preprocess import preprocess
from extract.preset import PRESETS
from finetune.model.checkpoint import HEAD, load_classifier
from finetune.recipe.load import load_config


@pytest.fixture(scope="module")
def published(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    exact = SHORT.model_copy(update={"cache": "float32"})
    return load_run(run(phantom, tmp_path_factory.mktemp("runs"), config=exact).folder)


def volumes_of(bucket: Path, split: str) -> dict[str, np.ndarray]:
    return {
        volume_id(path.relative_to(bucket).as_posix()): preprocess(
            read_dicom(path.read_bytes()), PRESETS["pretrain"], IMAGE_SIZE
        )
        for path in scans(bucket, split)
    }


def test_a_loaded_classifier_says_what_the_run_recorded(phantom: Path, published: Run) -> None:
    classifier = load_classifier(published)
    assert (classifier.image_size, classifier.token_grid) == (IMAGE_SIZE, (1, 2, 2))
    assert (len(classifier.blocks), list(classifier.classes)) == (4, published.record.asked.classes)
    images = volumes_of(phantom, "val")
    expected = pick_predictions(published.predictions, model="finetune", level="volume", split="val")
    logits = classifier.logits(
        torch.from_numpy(np.stack([images[unit] for unit in expected.unit])), ["cirrus_mac"] * len(expected.unit)
    )
    assert not logits.requires_grad
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected.probability, atol=1e-5)


def test_an_explanation_may_ask_for_the_gradient_of_its_volume(phantom: Path, published: Run) -> None:
    classifier = load_classifier(published)
    volume = torch.from_numpy(next(iter(volumes_of(phantom, "val").values()))[None]).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.logits(volume, ["cirrus_mac"])[0, 1], volume)
    assert float(gradient.abs().max()) > 0
    assert not any(weight.requires_grad for weight in classifier.model.parameters())


@pytest.mark.parametrize("head", ["mlp", "ordinal", "attentive"])
def test_every_kind_of_head_reads_back(phantom: Path, tmp_path: Path, head: str) -> None:
    config = load_config(None, changes=(f"head.kind={head}", "cache=float32", "stages.head.augment=0.1"), epochs=1)
    config = config.model_copy(update={"augment": config.augment.model_copy(update={"rotation_degrees": 0.0})})
    loaded = load_run(run(phantom, tmp_path, config=config, stages=("head",)).folder)
    images = volumes_of(phantom, "val")
    expected = pick_predictions(loaded.predictions, model="finetune", level="volume", split="val")
    given = load_classifier(loaded).logits(
        torch.from_numpy(np.stack([images[unit] for unit in expected.unit])), ["cirrus_mac"] * len(expected.unit)
    )
    np.testing.assert_allclose(given.softmax(1).numpy(), expected.probability, atol=1e-5)


def copied(published: Run, out: Path) -> Run:
    return replace(published, folder=Path(shutil.copytree(published.folder, out)))


def test_another_kind_of_run_and_damaged_files_are_refused(phantom: Path, published: Run, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a run of finetune, got one of linear"):
        load_classifier(
            replace(
                published, record=replace(published.record, fitted=replace(published.record.fitted, model="linear"))
            )
        )
    damaged = copied(published, tmp_path / "damaged")
    (damaged.folder / "model" / HEAD).write_bytes(b"{")
    with pytest.raises(RunFolderError, match="expected the file that the run wrote"):
        load_classifier(damaged)
    another = replace(TINY, encoder="random:tiny,seed=1")
    other = load_run(run(phantom, tmp_path / "runs", **another.arguments(), stages=("head",)).folder)
    swapped = copied(published, tmp_path / "swapped")
    shutil.copy(other.folder / "model" / HEAD, swapped.folder / "model" / HEAD)
    with pytest.raises(RunFolderError, match="expected the file that the run wrote"):
        load_classifier(swapped)
