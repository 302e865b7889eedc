"""Out of distribution: strangers stand out, new people of the same kind do not, and train does not flatter itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.errors import RunFolderError
from classify.features.standardise import Standardiser
from classify.features.table import FeatureChoice, FeatureTable
from classify.reference.neighbours import KnownVolumes
from classify.reference.novelty import Gaussians, NoveltyDetector
from classify.reference.training import TrainingReference

SCANS = 4
MIXING = np.random.default_rng(99).normal(0, 1, (5, 40))


def draw(people: int, seed: int, *, shift: float = 0.0, noise: float = 1.0) -> FeatureTable:
    """Embeddings of people whose scans look alike, in two protocols far from each other."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), SCANS)
    own = rng.normal(0, 1, (people, len(MIXING)))[person] @ MIXING
    protocol = np.where(np.arange(len(person)) % 2, "b", "a")
    x = own + rng.normal(0, noise, own.shape) + shift + 30.0 * (protocol == "b")[:, None]
    name = np.array([f"{seed}{number:04d}" for number in person])
    return FeatureTable(
        x=x.astype(np.float32),
        y=(person % 4).astype(np.int64),
        volume=np.array([f"{seed}-{number}" for number in range(len(person))]),
        participant=name,
        eye=np.array(["L", "R"] * (len(person) // 2)),
        protocol=protocol,
        split=np.full(len(person), "train"),
        names=tuple(str(number) for number in range(x.shape[1])),
        space="s",
    )


@pytest.fixture(scope="module")
def reference() -> TrainingReference:
    train = draw(250, 1)
    index = pd.DataFrame({"protocol": train.protocol, "intensity_mean": np.random.default_rng(0).normal(50, 5, 1000)})
    return TrainingReference.fit(FeatureChoice(), train, index, seed=0)


def percentile(reference: TrainingReference, table: FeatureTable) -> np.ndarray:
    x = reference.standardiser.transform(table.x, table.protocol)
    return reference.novelty.percentile(reference.novelty.gaussians.distance(x))


def test_new_people_of_the_same_kind_lie_beyond_a_percentile_as_often_as_it_says(reference: TrainingReference) -> None:
    found = percentile(reference, draw(1000, 2))
    for nominal in (50, 90, 99):
        expected = (100 - nominal) / 100
        assert (found > nominal).mean() == pytest.approx(expected, abs=0.01 + 0.15 * expected)


@pytest.mark.parametrize(("change", "least"), [({"shift": 3.0}, 0.95), ({"noise": 3.0}, 0.95)])
def test_strangers_lie_beyond_the_threshold(
    reference: TrainingReference, change: dict[str, float], least: float
) -> None:
    assert (percentile(reference, draw(100, 3, **change)) > 99).mean() > least


def test_what_the_components_leave_out_counts_too() -> None:
    """A vector that is strange only across the principal components keeps its place among them."""
    train = draw(100, 4)
    novelty = NoveltyDetector.fit(train, Standardiser.fit(train.x, train.protocol), seed=0)
    gaussians = novelty.gaussians
    across = np.random.default_rng(0).normal(size=gaussians.components.shape[1])
    across -= gaussians.components.T @ (gaussians.components @ across)
    odd = (gaussians.centre + 40.0 * across / np.linalg.norm(across)).astype(np.float32)[None]
    assert len(gaussians.components) < gaussians.components.shape[1]
    assert novelty.percentile(gaussians.distance(odd))[0] == 100


def test_the_known_distances_are_those_of_people_left_out() -> None:
    """With few people and many features, fitting makes train look nearer than anybody new will ever be."""
    train, fresh = draw(25, 5), draw(300, 6)
    standardiser = Standardiser.fit(train.x, train.protocol)
    detector = NoveltyDetector.fit(train, standardiser, seed=0)
    inside = detector.gaussians.distance(standardiser.transform(train.x, train.protocol))
    outside = detector.gaussians.distance(standardiser.transform(fresh.x, fresh.protocol))
    assert (outside > np.quantile(inside, 0.99)).mean() > 0.1
    assert (detector.percentile(outside) > 99).mean() < 0.03
    assert np.median(detector.known_distance) == pytest.approx(np.median(outside), rel=0.1)


def test_the_threshold_is_where_the_percentile_begins(reference: TrainingReference) -> None:
    for asked in (50.0, 97.3, 99.0):
        edge = reference.novelty.threshold(asked)
        just = np.array([edge, np.nextafter(edge, np.inf)])
        assert (reference.novelty.percentile(just) > asked).tolist() == [False, True]


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(4000) % 2
    x = (rng.normal(0, [1.0, 3.0], (4000, 2)) + 8.0 * y[:, None]).astype(np.float32)
    gaussians = Gaussians.fit(lambda: iter([x[:1000], x[1000:]]), y.astype(np.int64), components=2)
    ask = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 6.0], [8.0, 8.0], [8.0, 14.0]], dtype=np.float32)
    np.testing.assert_allclose(gaussians.distance(ask), [0, 2, 2, 0, 2], atol=0.15)


def test_what_was_saved_comes_back(reference: TrainingReference, tmp_path: Path) -> None:
    reference.save(tmp_path)
    again = TrainingReference.load(tmp_path)
    new = draw(5, 7)
    np.testing.assert_array_equal(percentile(again, new), percentile(reference, new))
    assert again.known.volume.tolist() == reference.known.volume.tolist()
    assert (again.choice, again.protocols) == (reference.choice, ("a", "b"))
    lines = pd.DataFrame({"protocol": ["a", "a", "b", "c"], "intensity_mean": [50.0, 150.0, np.nan, 150.0]})
    assert again.fences.outside(lines).tolist() == [False, True, False, False]
    for name in ("known.npz", "reference.json"):
        path = tmp_path / "reference" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunFolderError, match=rf"reference/{name} cannot be read"):
            TrainingReference.load(tmp_path)
        path.write_bytes(whole)


def test_nearest_of_a_training_duplicate_is_itself(reference: TrainingReference) -> None:
    train = draw(250, 1)
    x = reference.standardiser.transform(train.x, train.protocol)
    rows, distance = reference.known.nearest(x, 3)
    assert reference.known.volume[rows[:, 0]].tolist() == train.volume.tolist()
    assert distance[:, 0].max() < 1e-3
    assert (np.diff(distance, axis=1) >= 0).all()
    people = reference.known.participant[rows]
    assert all(len(set(line)) == 3 for line in people.tolist())


def test_neighbours_equal_a_direct_search(reference: TrainingReference) -> None:
    new = draw(20, 8)
    x = reference.standardiser.transform(new.x, new.protocol)
    rows, distance = reference.known.nearest(x, 5)
    train = draw(250, 1)
    known = reference.standardiser.transform(train.x, train.protocol)
    cosine = 1 - (x / np.linalg.norm(x, axis=1)[:, None]) @ (known / np.linalg.norm(known, axis=1)[:, None]).T
    for place, away in enumerate(cosine):
        people = pd.Series(away).groupby(train.participant).min().sort_values()
        np.testing.assert_allclose(distance[place], people.to_numpy()[:5], atol=1e-3)
        np.testing.assert_allclose(away[rows[place]], people.to_numpy()[:5], atol=1e-3)


def test_fewer_people_than_asked_for() -> None:
    train = draw(2, 9)
    known = replace(train, x=train.x - train.x.mean(axis=0))
    found = KnownVolumes.remember([known.x], train.volume, train.participant, train.y)
    rows, distance = found.nearest(known.x, 5)
    assert rows.shape == distance.shape == (8, 2)
    assert found.nearest(known.x[:0], 5)[0].shape == (0, 2)
