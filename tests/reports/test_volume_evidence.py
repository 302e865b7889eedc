"""Explanations of single volumes on simulated tokens: evidence lies in one sector, and is found there."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.model import FittedModel, ModelSpec, fit_model
from embeddings_store.schema import Eye
from embeddings_store.token_pooling import pool_tokens
from reports.anatomy.regions import SECTORS, Regions, axial_bands, en_face_regions
from reports.anatomy.scan import ScanGeometry
from reports.attribution.controls import make_controls, permute_labels
from reports.attribution.volume import VolumeEvidence, explain_volume

GRID, CHANNELS = (12, 4, 12), 8
SCAN = ScanGeometry(120, 400, 500, (0.05, 0.004, 0.012), Eye.RIGHT, "triton_3d_radial", "")
PLANTED = "inner-superior"


@dataclass(frozen=True)
class Simulated:
    tokens: np.ndarray
    table: FeatureTable


def simulate(pools: tuple[str, ...], people: int = 80, *, seed: int = 0) -> Simulated:
    """Two classes; class 1 has more of channel 0 in the planted sector only."""
    rng = np.random.default_rng(seed)
    planted = en_face_regions(SCAN, GRID).label == SECTORS.index(PLANTED)
    label = np.arange(people) % 2
    tokens = rng.normal(size=(people, *GRID, CHANNELS))
    tokens[..., 0] += 2.5 * label[:, None, None, None] * planted
    stored = tokens.astype(np.float16)
    x = np.stack([pool_tokens(grid, pools).ravel() for grid in stored])
    names = np.array([f"{number:04d}" for number in range(people)])
    table = FeatureTable(
        x=x,
        y=label.astype(np.int64),
        volume=names,
        participant=names,
        eye=np.full(people, "R"),
        protocol=np.full(people, "triton_3d_radial"),
        split=np.full(people, "train"),
        names=tuple(str(number) for number in range(x.shape[1])),
        space="0" * 16,
    )
    return Simulated(stored, table)


def fitted(simulated: Simulated, model: str, pools: tuple[str, ...]) -> FittedModel:
    return fit_model(ModelSpec(model, {}, FeatureChoice("last", pools)), simulated.table, classes=2, seed=0)


def explained(simulated: Simulated, model: FittedModel, row: int, control_seed: int = 1) -> VolumeEvidence:
    return explain_volume(
        model,
        simulated.tokens[row],
        simulated.table.x[row].astype(np.float64),
        "triton_3d_radial",
        classes=2,
        target=1,
        en_face=lambda grid: en_face_regions(SCAN, grid),
        bands=axial_bands,
        controls=make_controls(model, simulated.table, classes=2, seed=control_seed),
        seed=0,
    )


@pytest.mark.parametrize(("model", "pools"), [("linear", ("mean",)), ("linear", ("mean", "std")), ("lgbm", ("mean",))])
def test_the_planted_sector_ranks_first(model: str, pools: tuple[str, ...]) -> None:
    simulated = simulate(pools)
    head = fitted(simulated, model, pools)
    first = []
    for row in range(1, 12, 2):
        found = explained(simulated, head, row)
        shares = found.regions.share[:, 1]
        first.append(found.regions.regions.names[int(shares.argmax())] == PLANTED)
        assert found.regions.gap < 1e-9
    assert np.mean(first) >= 0.8


def test_token_shares_of_a_linear_head_add_up_to_what_the_head_says() -> None:
    simulated = simulate(("mean",))
    found = explained(simulated, fitted(simulated, "linear", ("mean",)), 3)
    assert found.tokens is not None
    np.testing.assert_allclose(found.tokens.evidence, found.evidence, atol=1e-4)  # the head reads float32
    assert found.rounding < 1e-4
    by_region = np.bincount(found.regions.regions.label.ravel(), found.map.ravel(), len(found.regions.share))
    np.testing.assert_allclose(by_region, found.regions.share[:, 1], atol=1e-5)


def test_the_spread_map_of_other_heads_adds_up_to_the_regions() -> None:
    simulated = simulate(("mean", "std"))
    found = explained(simulated, fitted(simulated, "lgbm", ("mean", "std")), 3)
    assert found.tokens is None
    by_region = np.bincount(found.regions.regions.label.ravel(), found.map.ravel(), len(found.regions.share))
    np.testing.assert_allclose(by_region, found.regions.share[:, 1], atol=1e-9)


def test_deletion_and_insertion_beat_random_orders_of_regions() -> None:
    simulated = simulate(("mean",))
    head = fitted(simulated, "linear", ("mean",))
    curves = [explained(simulated, head, row).regions.curves for row in (1, 3, 5)]
    assert np.mean([curve.deletion_beats for curve in curves]) > 0.9
    assert np.mean([curve.insertion_beats for curve in curves]) > 0.9


def test_controls_give_another_map() -> None:
    simulated = simulate(("mean",))
    head = fitted(simulated, "linear", ("mean",))
    agreement = [explained(simulated, head, 2 * seed + 1, seed).regions.agreement for seed in range(8)]
    for control in ("permuted labels", "shuffled channels"):
        assert np.mean([one[control] for one in agreement]) < 0.5


def test_permuted_labels_keep_the_scans_of_a_person_together() -> None:
    label = np.repeat(np.arange(40) % 4, 3)
    participant = np.repeat([f"{number:04d}" for number in range(40)], 3)
    permuted = permute_labels(label, participant, np.random.default_rng(0))
    assert (permuted.reshape(40, 3) == permuted.reshape(40, 3)[:, :1]).all()
    assert (np.bincount(permuted) == np.bincount(label)).all()
    assert (permuted != label).any()


def test_an_attentive_head_is_explained_by_regions_attention_and_gradients() -> None:
    simulated = simulate(("mean",), people=60)
    count = int(np.prod(GRID))
    table = replace(
        simulated.table,
        x=simulated.tokens.reshape(60, -1).astype(np.float32),
        names=("t",) * count * CHANNELS,
        tokens=count,
    )
    choice = FeatureChoice("last", (), GRID)
    parameters = {"tokens": count, "max_epochs": 20, "learning_rate": 3e-3, "weight_decay": 1e-2}
    head = fit_model(ModelSpec("attentive", parameters, choice), table, classes=2, seed=0)
    found = explain_volume(
        head,
        simulated.tokens[1],
        None,
        "triton_3d_radial",
        classes=2,
        target=1,
        en_face=lambda grid: en_face_regions(SCAN, grid),
        bands=axial_bands,
        controls=make_controls(head, table, classes=2, seed=1),
        seed=0,
    )
    assert found.looked is not None
    assert found.looked.attention.sum() == pytest.approx(1.0)
    assert found.regions.gap < 1e-9
    assert [one.name for one in found.maps] == ["gradient", "attention", "regions"]
    assert all(one.values.shape == GRID for one in found.maps)
    # The gradient is what a small step along a token does to the evidence.
    step = np.zeros_like(table.x[1])
    step[5 * CHANNELS] = 1e-3
    standard = head.standardiser.transform(table.x[1:2], table.protocol[1:2])
    logs = [np.log(head.head.predict_proba(standard + sign * step))[0] for sign in (1, -1)]
    slope = (logs[0] - logs[1]) / 2e-3
    gradient = head.head.gradients(standard)[0, :, 5, 0]  # type: ignore[attr-defined]  # of the attentive head
    np.testing.assert_allclose(gradient, slope, atol=2e-3)


def test_a_mirrored_left_eye_is_shown_as_it_is() -> None:
    """What a model that sees left eyes mirrored says of one is what it says of its mirror image, turned back."""
    simulated = simulate(("mean",), people=60)
    count = int(np.prod(GRID))
    table = replace(
        simulated.table,
        x=simulated.tokens.reshape(60, -1).astype(np.float32),
        names=("t",) * count * CHANNELS,
        tokens=count,
    )
    parameters = {"tokens": count, "max_epochs": 12, "learning_rate": 1e-2, "weight_decay": 1e-2}
    plain = fit_model(ModelSpec("attentive", parameters, FeatureChoice("last", (), GRID)), table, classes=2, seed=0)
    model = replace(plain, features=replace(plain.features, mirror=True))
    image = np.ascontiguousarray(simulated.tokens[1][:, :, ::-1])

    def regions(grid: tuple[int, int, int], *, turned: bool) -> Regions:
        found = en_face_regions(SCAN, grid)
        return replace(found, label=found.label[:, :, ::-1]) if turned else found

    left, right = (
        explain_volume(
            model, tokens, None, "triton_3d_radial", classes=2, target=1,
            en_face=partial(regions, turned=is_left), bands=axial_bands,
            controls=make_controls(model, table, classes=2, seed=1), seed=0, left=is_left,
        )
        for tokens, is_left in ((image, True), (simulated.tokens[1], False))
    )  # fmt: skip
    np.testing.assert_allclose(left.evidence, right.evidence, atol=1e-9)
    np.testing.assert_allclose(left.regions.share, right.regions.share, atol=1e-9)
    assert left.looked is not None
    assert right.looked is not None
    np.testing.assert_allclose(left.looked.attention[:, :, ::-1], right.looked.attention, atol=1e-12)
    np.testing.assert_allclose(left.looked.gradient[:, :, ::-1], right.looked.gradient, atol=1e-9)


def test_a_knn_head_is_explained_too() -> None:
    simulated = simulate(("mean",))
    wide = replace(simulated, tokens=simulated.tokens)
    assert explained(wide, fitted(simulated, "knn", ("mean",)), 1).regions.gap < 1e-9
