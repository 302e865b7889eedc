"""Of many scans only those with a stranger close by are measured in full: what is found is what all distances say."""

from collections.abc import Callable

import numpy as np
import pytest

from classify.cohort import near_copies, scan_cloud, scan_trees
from classify.cohort.near_copies import NearCopy, find_alike_thumbnails, find_near_copies
from classify.cohort.scan_cloud import ScanCloud

PEOPLE, SCANS = 60, 5


def vectors_with_copies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    own = rng.normal(size=(PEOPLE, 40)).repeat(SCANS, axis=0) @ rng.normal(size=(40, 700))
    x = own + 4 * rng.normal(size=own.shape) + 30 * rng.integers(0, 3, len(own))[:, None]
    for noise, (copy, source) in zip(
        (0, 1e-3, 0.02, 0.1, 0.3), rng.permutation(len(x))[:10].reshape(5, 2), strict=True
    ):
        x[copy] = x[source] + noise * x.std(axis=0) * rng.normal(size=700)
    return x.astype(np.float32), np.array([f"{row // SCANS:03d}" for row in rng.permutation(len(x))])


def pictures_with_copies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(0, 255, (PEOPLE * 3, 8, 4, 4)).repeat(8, axis=2).repeat(8, axis=3).astype(float)
    for copy, axes in enumerate(((), (2,), (0,), (0, 2))):
        x[copy] = np.flip(x[100 + copy], axes) + rng.normal(0, 4 + 10 * copy, (8, 32, 32))
    return x.clip(0, 255).astype(np.uint8), np.array([f"{row:03d}" for row in range(len(x))])


@pytest.mark.parametrize(
    ("find", "make"), [(find_near_copies, vectors_with_copies), (find_alike_thumbnails, pictures_with_copies)]
)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_copies_are_found_as_by_all_distances(
    monkeypatch: pytest.MonkeyPatch, find: Callable[..., list[NearCopy]], make: Callable[..., tuple], seed: int
) -> None:
    x, participant = make(np.random.default_rng(seed))
    whole = find(x, participant)
    assert len(whole) >= 3
    monkeypatch.setattr(near_copies, "COMPARED_WHOLE", 10)
    monkeypatch.setattr(scan_cloud, "TILE", (7, 32))
    assert find(x, participant) == whole  # the sample is all of them
    monkeypatch.setattr(scan_cloud, "COMPARED_IN_TILES", 10)
    monkeypatch.setattr(ScanCloud, "_close_in_tiles", None)
    assert find(x, participant) == whole
    monkeypatch.setattr(scan_cloud, "SAMPLED", 150)
    assert [(one.first, one.second) for one in find(x, participant)] == [(one.first, one.second) for one in whole]


def test_honest_and_equal_scans_have_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_copies, "COMPARED_WHOLE", 10)
    rng = np.random.default_rng(0)
    x, participant = rng.normal(size=(300, 40)).astype(np.float32), np.array([f"{row // 3}" for row in range(300)])
    assert find_near_copies(x, participant) == []
    assert find_near_copies(x[:1].repeat(300, axis=0), participant) == []


def clumps(rng: np.random.Generator) -> np.ndarray:
    """Five devices, far apart, and a spectrum like that of embeddings."""
    spread = 1 / np.sqrt(np.arange(1, 101))
    return (rng.normal(size=(6000, 100)) + 20 * rng.integers(0, 5, 6000)[:, None]) * spread


@pytest.mark.parametrize("make", [lambda rng: rng.normal(size=(6000, 100)), clumps])
@pytest.mark.parametrize("images", [1, 2])
def test_trees_find_all_but_one_in_a_thousand_copies_at_the_edge_of_reach(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[np.random.Generator], np.ndarray], images: int
) -> None:
    rng = np.random.default_rng(0)
    points, owner = make(rng), np.arange(6000) // 5
    usual = np.median(
        ScanCloud(points[None].astype(np.float32), owner).nearest_people(9, np.arange(0, 6000, 30))[:, -1]
    )
    reach = 0.25 * float(usual)
    steps, mirror = rng.normal(size=(3000, 100)), np.where(np.arange(100) % 2, 1, -1)
    points[3000:] = points[:3000] * (mirror if images == 2 else 1)
    points[3000:] += 0.999 * reach * steps / np.linalg.norm(steps, axis=1)[:, None]
    cloud = ScanCloud(np.stack([points, points * mirror][:images]).astype(np.float32), owner)
    every = cloud.close_rows(reach, seed=0)
    assert len(every) == 6000
    monkeypatch.setattr(scan_cloud, "COMPARED_IN_TILES", 10)
    monkeypatch.setattr(scan_trees, "MOST_TREES", 1)
    assert cloud.close_rows(reach, seed=0).tolist() == every.tolist()  # one tree is not enough: all are compared
    monkeypatch.setattr(scan_trees, "MOST_TREES", 64)
    monkeypatch.setattr(ScanCloud, "_close_in_tiles", None)
    assert len(cloud.close_rows(reach, seed=0)) >= 0.999 * 6000


def test_planted_copies_are_near_nobody_and_honest_scans_stay_unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(1, 3000, 60)).astype(np.float32)
    monkeypatch.setattr(scan_cloud, "COMPARED_IN_TILES", 10)
    assert ScanCloud(points, np.arange(3000)).close_rows(2.0, seed=0).tolist() == []
    assert ScanCloud(points.repeat(2, axis=1), np.arange(6000) // 2).close_rows(2.0, seed=0).tolist() == []


@pytest.mark.parametrize("images", [1, 2])
def test_many_copies_are_listed_as_one_by_one(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    rng = np.random.default_rng(images)
    points = rng.normal(size=(images, 400, 30)).astype(np.float32)
    points[0, 200:] = points[images - 1, :200] + 0.05 * rng.normal(size=(200, 30))
    limit = np.where(rng.random(400) < 0.5, 0.6, 0).astype(np.float32)
    apart = np.min([np.linalg.norm(one[:, None] - points[0][None], axis=2) for one in points], axis=0)
    owner = np.arange(400) // 4
    near = (apart <= limit[:, None]) & (owner[:, None] != owner)
    monkeypatch.setattr(scan_cloud, "BLOCK_NUMBERS", 400 * 7)
    wanted = sorted({(min(pair), max(pair)) for pair in np.argwhere(near).tolist()})
    assert len(wanted) > 80
    assert ScanCloud(points, owner).copies_within(limit) == wanted


@pytest.mark.parametrize("mirrors", [1, 3])
def test_no_row_with_a_stranger_within_reach_is_missed_and_few_others_are_named(mirrors: int) -> None:
    rng = np.random.default_rng(mirrors)
    points = rng.normal(size=(500, 90)).astype(np.float32)
    owner = np.arange(500) // 5
    seen = [
        points,
        *(points @ np.linalg.qr(rng.normal(size=(90, 90)))[0].astype(np.float32) for _ in range(mirrors - 1)),
    ]
    for place, one in enumerate(rng.permutation(500)[:20]):
        points[one] = seen[place % mirrors][(one + 250) % 500] + 0.1 * rng.normal(size=90)
    cloud = ScanCloud(np.stack(seen), owner)
    for reach in (1.5, 6.0):
        apart = np.min([np.linalg.norm(points[None] - one[:, None], axis=2) for one in seen], axis=0)
        close = (apart <= reach) & (owner[:, None] != owner[None, :])
        found = cloud.close_rows(reach, seed=0)
        assert set(np.flatnonzero(close.any(axis=1))) <= set(found)
        assert len(found) <= close.any(axis=1).sum() * 2 + 40
    assert len(ScanCloud(points[None], np.zeros(500, np.int64)).close_rows(100.0, seed=0)) == 0
    assert cloud.nearest_people(3, np.array([], np.int64)).shape == (0, 3)
