"""Tokens of a store as features: the right volume, place and channel, within memory or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import CHANNELS, space
from token_study import GRID, fill_token_store, make_token_study, token_space

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.table import Cohort
from classify.cohort.tasks import TASKS
from classify.features.standardise import Standardiser
from classify.features.table import FeatureChoice, FeatureTable
from classify.features.tokens import MOST_TOKENS, check_memory, parse_token_grid, resolve_grid, with_tokens
from classify.fitting.model import load_model
from classify.fitting.source import source_of_run
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.folder import load_run
from classify.search.folds import deal_folds
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot, read_features_source

CHOICE = FeatureChoice("last", (), GRID)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Snapshot, Cohort, np.ndarray]:
    """A store with tokens, its snapshot, the cohort, and the tokens of each volume of the cohort."""
    folder = tmp_path_factory.mktemp("tokens")
    study, tokens = make_token_study(16)
    url = str(folder / "store")
    fill_token_store(study, tokens, Path(url))
    snapshot = read_features_source(url)
    people = read_participants(study.write(folder))
    cohort = join_cohort(snapshot.index, snapshot.pooled, people, TASKS["four-class"])
    place = {volume: number for number, volume in enumerate(study.stored.index["volume"])}
    return url, snapshot, cohort, tokens[[place[volume] for volume in cohort.table["volume"]]]


def read(stored: tuple[str, Snapshot, Cohort, np.ndarray], choice: FeatureChoice = CHOICE) -> FeatureTable:
    url, snapshot, cohort, _ = stored
    return with_tokens(snapshot, url).read_tokens(cohort, choice)


def test_every_volume_has_its_own_tokens_in_order(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    *_, cohort, tokens = stored
    table = read(stored)
    assert table.tokens == 32
    assert (table.x == tokens[:, 1].reshape(len(tokens), -1).astype(np.float32)).all()
    assert table.volume.tolist() == cohort.table["volume"].tolist()
    assert table.names[0] == "last/d0h0w0/000"
    assert table.names[-1] == f"last/d1h3w3/{CHANNELS - 1:03d}"
    assert table.names[6 * CHANNELS] == "last/d0h1w2/000"


def test_a_coarser_grid_holds_the_means_of_boxes(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    *_, tokens = stored
    table = read(stored, FeatureChoice("1", (), (1, 2, 2)))
    boxes = tokens[:, 0].astype(np.float64).reshape(-1, 1, 2, 2, 2, 2, 2, CHANNELS).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(table.x, boxes.reshape(len(boxes), -1), atol=2e-3)
    assert table.tokens == 4


def test_one_split_alone_reads_its_own_volumes(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    url, snapshot, cohort, _ = stored
    here = cohort.table["split"] == "val"
    part = replace(cohort, table=cohort.table[here].reset_index(drop=True), position=np.arange(int(here.sum())))
    val = with_tokens(snapshot, url).read_tokens(part, CHOICE)
    assert (val.x == read(stored).only("val").x).all()


def test_tokens_average_to_pooled_features(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    _, snapshot, cohort, _ = stored
    pooled = read(stored).pooled()
    np.testing.assert_allclose(pooled.x, snapshot.pooled[cohort.position, 1, 0], atol=1e-5)
    assert (pooled.tokens, pooled.names[1]) == (1, "last/mean/001")
    assert pooled.pooled() is pooled


def test_each_channel_is_standardised_within_protocol_over_all_tokens(
    stored: tuple[str, Snapshot, Cohort, np.ndarray], tmp_path: Path
) -> None:
    table = read(stored)
    standardiser = Standardiser.fit(table.x, table.protocol, tokens=table.tokens)
    assert standardiser.mean.shape[1] == CHANNELS
    z = table.standardised(standardiser)
    for name in np.unique(table.protocol):
        vectors = z.where(z.protocol == name).x.reshape(-1, CHANNELS)
        np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(vectors.std(axis=0), 1, atol=1e-5)
    places = z.x.reshape(-1, 32, CHANNELS).mean(axis=0)
    assert places.std(axis=0).min() > 0.3  # what tells the places apart is still there
    standardiser.save(tmp_path)
    again = Standardiser.load(tmp_path)
    assert (table.standardised(again).x == z.x).all()


def test_small_blocks_standardise_alike(
    stored: tuple[str, Snapshot, Cohort, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read(stored)
    whole = table.standardised(Standardiser.fit(table.x, table.protocol, tokens=32))
    monkeypatch.setattr("classify.features.standardise.BLOCK_NUMBERS", 1000)
    parts = table.standardised(Standardiser.fit(table.x, table.protocol, tokens=32))
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-5)


def test_without_a_wish_the_grid_is_fine_and_bounded() -> None:
    assert resolve_grid(token_space(), None) == GRID
    full = replace(token_space(), token_grid=(16, 24, 24))
    assert resolve_grid(full, None) == (4, 6, 6)
    assert resolve_grid(replace(full, token_grid=(8, 12, 12)), None) == (4, 6, 6)
    assert np.prod(resolve_grid(replace(full, token_grid=(7, 11, 13)), None)) <= MOST_TOKENS


def test_what_cannot_be_read_is_one_message(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    with pytest.raises(UsageError, match=r"pooled vectors only.*--tokens 1x2x2"):
        resolve_grid(space(), None)
    with pytest.raises(UsageError, match="expected a divisor of the stored 2x4x4"):
        read(stored, FeatureChoice("last", (), (2, 3, 4)))
    with pytest.raises(UsageError, match="--layer: the store holds 1, last; got '7'"):
        read(stored, FeatureChoice("7", (), GRID))
    for text in ("4x6", "4x6x0", "axbxc"):
        with pytest.raises(UsageError, match="--token-grid: expected depth x height x width"):
            parse_token_grid(text)
    assert parse_token_grid("4x6x6") == (4, 6, 6)


def test_more_than_memory_holds_is_refused_before_reading_with_what_would_fit(
    stored: tuple[str, Snapshot, Cohort, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    big = replace(token_space(), token_grid=(16, 24, 24), width=768)
    check_memory(1000, (4, 6, 6), big, 2.3e9)
    with pytest.raises(UsageError, match=r"25000 volumes need 55\.3 GB, 16\.0 GB may be used; give --token-grid") as no:
        check_memory(25_000, (4, 6, 6), big, 16e9)
    advised = parse_token_grid(str(no.value).rpartition(" ")[2])
    assert np.prod(advised) > 30
    check_memory(25_000, advised, big, 16e9)
    with pytest.raises(UsageError, match="use pooled vectors"):
        check_memory(25_000, (4, 6, 6), big, 1e6)
    url, snapshot, cohort, _ = stored
    monkeypatch.setattr("classify.features.tokens.usable_memory_bytes", lambda: 1000)
    monkeypatch.setattr("embeddings_store.reader.StoreReader.token_batch", None)
    with pytest.raises(UsageError, match="volumes need"):
        with_tokens(snapshot, url).read_tokens(cohort, CHOICE)


def test_folds_of_tokens_are_made_one_at_a_time(
    stored: tuple[str, Snapshot, Cohort, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr("classify.search.folds.make_fold", lambda *_: made.append(1))
    folds = deal_folds(read(stored).only("train"), 0)
    next(folds)
    assert made == [1]


def test_left_eyes_are_mirrored_where_asked(stored: tuple[str, Snapshot, Cohort, np.ndarray]) -> None:
    *_, cohort, tokens = stored
    plain, table = read(stored), read(stored, replace(CHOICE, mirror=True))
    left = (cohort.table["eye"] == "L").to_numpy()
    assert 0 < left.sum() < len(left)
    assert (table.x[~left] == plain.x[~left]).all()
    turned = tokens[left, 1][:, :, :, ::-1].reshape(int(left.sum()), -1)
    assert (table.x[left] == turned.astype(np.float32)).all()
    assert table.names == plain.names


def test_the_search_may_choose_to_mirror_and_the_model_remembers(tmp_path: Path) -> None:
    """Everybody's left eye shows at the mirrored place: heads that know places are better where it is turned."""
    study, tokens = make_token_study(80, effect=1.2, seed=1)
    left = (study.stored.index["eye"] == "L").to_numpy()
    tokens[left] = tokens[left][:, :, :, :, ::-1]
    url = str(tmp_path / "store")
    fill_token_store(study, tokens, Path(url))
    snapshot = with_tokens(read_features_source(url), url)
    asked = {"store": "store", "model": "tokens-linear", "participants": study.write(tmp_path), "replicates": 20}
    done = probe(
        ProbeOptions(**asked, runs=tmp_path / "runs", trials=12, layer="last", aggregate="mean-logits", jobs=1),
        read=lambda *_: snapshot,
        tell=lambda _: None,
    )
    features = done.record.fitted.features
    assert features["mirror"] is True
    assert "mirror" not in done.record.fitted.parameters
    again = load_run(done.folder)
    model = load_model(again)
    assert model.features.mirror
    raw = source_of_run(again, snapshot).table(model.features).only("val")
    seen = model.predict(raw, classes=4, split="val")["participant"]
    kept = again.predictions.query("model == 'tokens-linear' and level == 'participant' and split == 'val'")
    assert seen.participant.tolist() == kept["participant"].tolist()
    columns = [name for name in kept.columns if name.startswith("logit")]
    np.testing.assert_allclose(seen.logits, kept[columns].to_numpy(), atol=1e-5)
