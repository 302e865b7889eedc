"""The attentive probe looks where the signal is, and trains many candidates at once as if each were alone."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from classify.heads.attentive import TURNED_BY, AttentiveHead, AttentiveNetwork, first_components
from classify.heads.linear import LinearHead
from classify.heads.members import Member, Network, Schedule, Trained, Units, train_members

TOKENS, CHANNELS, TELLING = 16, 24, 5
QUICK = {"tokens": TOKENS, "learning_rate": 1e-2, "weight_decay": 1.0, "max_epochs": 8, "hold_out": 5}


def make_tokens(volumes: int = 500, *, effect: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ at one token; each place has vectors of its own, as those of a transformer do."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, volumes)
    x = rng.normal(size=(volumes, TOKENS, CHANNELS)) + rng.normal(size=(TOKENS, CHANNELS))
    x[:, TELLING, 0] += effect * y
    x = (x - x.mean(axis=(0, 1))) / x.std(axis=(0, 1))
    return x.reshape(volumes, -1).astype(np.float32), y


def auroc(head: object, x: np.ndarray, y: np.ndarray) -> float:
    return float(roc_auc_score(y, head.predict_proba(x)[:, 1]))  # type: ignore[attr-defined]


def test_it_finds_the_token_that_mean_pooling_loses() -> None:
    x, y = make_tokens()
    mean = x.reshape(len(x), TOKENS, CHANNELS).mean(axis=1)
    linear = LinearHead(C=0.1).fit(mean[:250], y[:250])
    head = AttentiveHead(tokens=TOKENS).fit(x[:250], y[:250])
    assert auroc(head, x[250:], y[250:]) > auroc(linear, mean[250:], y[250:]) + 0.15
    attention = head.attention(x[250:])
    assert attention.shape == (250, 5 * 4, TOKENS)
    np.testing.assert_allclose(attention.sum(axis=2), 1)
    assert attention.mean(axis=(0, 1)).argmax() == TELLING
    assert attention.mean(axis=0)[:, TELLING].max() > 4 / TOKENS


def test_without_an_effect_it_stays_at_chance() -> None:
    found = []
    for seed in range(3):
        x, y = make_tokens(600, effect=0.0, seed=seed)
        head = AttentiveHead(tokens=TOKENS, max_epochs=20).fit(x[:200], y[:200])
        found.append(auroc(head, x[200:], y[200:]))
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


def test_candidates_together_equal_each_alone() -> None:
    x, y = make_tokens(60)
    network = AttentiveNetwork(TOKENS, CHANNELS, 2, 8, 2, positions=True)
    candidates = [Member(*numbers) for numbers in product((1e-3, 3e-3, 1e-2), (0.1, 1.0), (0.2, 0.5))]
    held, schedule = np.stack([np.arange(60) % 3 == part for part in range(3)]), Schedule(16, 25, 2, 7, "cpu")
    together = train_members(network, units_of(x, y), held, candidates, schedule)
    assert len({one.epoch for one in together}) > 1  # they stop at different times
    assert len({float(one.weights["bias"][0, 0]) for one in together}) == len(candidates)
    for candidate, found in zip(candidates, together, strict=True):
        (alone,) = train_members(network, units_of(x, y), held, [candidate], schedule)
        assert (found.epoch, found.loss) == (alone.epoch, pytest.approx(alone.loss, abs=1e-6))
        for name, value in alone.weights.items():
            np.testing.assert_allclose(found.weights[name], value, rtol=0, atol=1e-5)


def watch_training(patch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, list[Member], list[Trained]]]:
    """Note what each call of train_members was given and gave."""
    seen: list[tuple[np.ndarray, list[Member], list[Trained]]] = []

    def watch(
        network: Network, units: Units, held: np.ndarray, candidates: list[Member], schedule: Schedule
    ) -> list[Trained]:
        seen.append((held, candidates, train_members(network, units, held, candidates, schedule)))
        return seen[-1][2]

    patch.setattr("classify.heads.network.train_members", watch)
    return seen


def test_the_candidate_with_the_smallest_loss_over_all_parts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_tokens(150)
    seen = watch_training(monkeypatch)
    head = AttentiveHead(tokens=TOKENS, max_epochs=6, hold_out=5).fit(x, y)
    (first_held, candidates, first), (held, finalists, trained) = seen
    assert (len(candidates), len(first_held), len(finalists), len(held)) == (12, 1, 3, 5)
    assert finalists == [candidates[number] for number in np.argsort([one.loss for one in first])[:3]]
    best = int(np.argmin([one.loss for one in trained]))
    assert (head.member_, head.n_iter_) == (finalists[best], trained[best].epoch)
    assert (held.sum(axis=0) == 1).all() and (held.argmax(axis=0) == head.held_by_).all()
    named = {"learning_rate": head.member_.learning_rate, "weight_decay": head.member_.weight_decay}
    alone = AttentiveHead(tokens=TOKENS, max_epochs=6, hold_out=5, **named).fit(x, y)
    np.testing.assert_allclose(alone.predict_proba(x), head.predict_proba(x), rtol=0, atol=1e-5)


def test_a_candidate_alone_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search fits thousands of such candidates."""
    x, y = make_tokens(60)
    seen = watch_training(monkeypatch)
    AttentiveHead(**QUICK).fit(x, y)
    assert [len(held) for held, _, _ in seen] == [5]


@pytest.mark.parametrize("count", [4, CHANNELS, 10 * CHANNELS])
def test_what_was_learned_from_components_is_kept_as_weights_of_the_channels(
    count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x, y = make_tokens(100)
    x = x + np.float32(3)  # a mean that they take off
    seen = watch_training(monkeypatch)
    head = AttentiveHead(**QUICK, pca=count).fit(x, y)
    assert head.weights_["query"].shape == (5, 4, CHANNELS)
    found = head.held_out_proba(x)
    assert -np.log(found[np.arange(100), y]).mean() == pytest.approx(seen[-1][2][0].loss, abs=1e-4)
    turn = first_components(x.reshape(-1, CHANNELS), np.ones(100), count)
    assert turn.directions.shape == (min(count, CHANNELS), CHANNELS)
    beyond = np.linalg.svd(turn.directions)[2][count:]
    moved = x + np.tile(5 * beyond.sum(axis=0), TOKENS).astype(np.float32)
    np.testing.assert_allclose(head.predict_proba(moved), head.predict_proba(x), atol=1e-4)
    head.save(tmp_path)
    np.testing.assert_array_equal(AttentiveHead().load(tmp_path).predict_proba(x), head.predict_proba(x))


def test_components_are_of_all_places_and_have_a_mean_square_of_one() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3 * TURNED_BY, 6)) * [9, 5, 1, 1, 1, 0]
    tokens[:TURNED_BY, 2] *= 7  # over all tokens less than the second
    tokens += 2
    found = first_components(tokens, np.ones(TURNED_BY // 10), 2)
    assert np.abs(found.directions).argmax(axis=1).tolist() == [0, 1]
    assert (found.project(tokens) ** 2).mean() == pytest.approx(1, abs=0.05)
    weights = np.repeat([1.0, 0.0], TURNED_BY // 20)
    tokens[len(tokens) // 2 :, 5] += rng.normal(scale=99, size=len(tokens) // 2)
    assert np.abs(first_components(tokens, weights, 1).directions[0]).argmax() == 0, "what weighs nothing is not seen"
    assert np.isfinite(first_components(np.ones((20, 3)), np.ones(10), 2).directions).all()


def test_who_was_held_back_is_predicted_by_the_network_that_did_not_see_them() -> None:
    """Labels mean nothing and are learned by heart by all networks but the one that a row was held back from."""
    x, _ = make_tokens(60)
    y = np.random.default_rng(1).permutation(60) % 2
    head = AttentiveHead(
        tokens=TOKENS, learning_rate=3e-2, weight_decay=0.0, dropout=0.0, max_epochs=60, patience=60, hold_out=5
    ).fit(x, y)
    head.weights_ = dict(train_members(
        head._network(), units_of(x, y), head.held_by_ == np.arange(5)[:, None], [Member(3e-2, 0.0, 0.0)],
        Schedule(30, 60, 60, 0, "cpu"),
    )[0].weights)  # fmt: skip
    by_network = [
        AttentiveNetwork.logits(head._network(), {n: v[[number]] for n, v in head.weights_.items()},
                                (torch.from_numpy(x).reshape(60, TOKENS, CHANNELS),), None)[0].softmax(dim=1).numpy()
        for number in range(5)
    ]  # fmt: skip
    found = head.held_out_proba(x)
    for number in range(5):
        own = head.held_by_ == number
        np.testing.assert_allclose(found[own], by_network[number][own], atol=1e-5)
    for few in (1, 7):
        np.testing.assert_allclose(head.held_out_proba(x[:few]), found[:few], atol=1e-12)
    assert roc_auc_score(y, head.predict_proba(x)[:, 1]) > roc_auc_score(y, found[:, 1]) + 0.2
    with pytest.raises(NotImplementedError, match="LinearHead learns from all rows at once"):
        LinearHead().fit(x, y).held_out_proba(x)


def units_of(x: np.ndarray, y: np.ndarray) -> Units:
    grid = torch.from_numpy(x).reshape(len(x), TOKENS, CHANNELS)
    return Units(lambda rows: (grid[rows],), y, np.ones(len(y)), np.arange(len(y)), 7)


def test_what_is_held_back_is_not_learned_from() -> None:
    """Labels mean nothing and are learned by heart: whoever is held back is guessed no better than by chance."""
    x, _ = make_tokens(60)
    y = np.random.default_rng(1).permutation(60) % 2
    network, member = AttentiveNetwork(TOKENS, CHANNELS, 2, 16, 2), Member(3e-2, 0.0, 0.0)
    nobody = np.zeros((1, 60), dtype=bool)
    for held, low, high in ((np.arange(60) % 5 == np.arange(5)[:, None], 0.9 * np.log(2), np.inf), (~nobody, 0.6, 0.8)):
        (found,) = train_members(network, units_of(x, y), held, [member], Schedule(30, 60, 60, 0, "cpu"))
        assert low < found.loss < high


def test_it_ends_with_the_weights_of_the_epoch_that_did_best() -> None:
    x, y = make_tokens(100, effect=1.0)
    head = AttentiveHead(**QUICK | {"max_epochs": 40, "patience": 5}).fit(x, y)
    assert 1 <= head.n_iter_ < 35
    shorter = AttentiveHead(**QUICK | {"max_epochs": head.n_iter_, "patience": 5}).fit(x, y)
    for name, value in shorter.weights_.items():
        assert torch.equal(value, head.weights_[name])
    assert len({float(one.flatten()[0]) for one in head.weights_["weight"]}) == 5


def test_places_are_learned_where_tokens_do_not_tell_them() -> None:
    """No token says where it is, and one place tells: only a query that knows places finds it."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    x = rng.normal(size=(800, TOKENS, CHANNELS))
    x[:, TELLING, 0] += 2.0 * y
    rows = x.reshape(800, -1).astype(np.float32)
    with_places, without = (
        auroc(AttentiveHead(tokens=TOKENS, positions=there).fit(rows[:400], y[:400]), rows[400:], y[400:])
        for there in (True, False)
    )
    assert with_places > 0.85
    assert with_places > without + 0.1


def test_a_run_of_before_has_one_network_and_no_places(tmp_path: Path) -> None:
    x, y = make_tokens(60)
    head = AttentiveHead(tokens=TOKENS, max_epochs=2, positions=False).fit(x, y)
    head.weights_ = {name: value[:1] for name, value in head.weights_.items()}
    head.save(tmp_path)
    with safe_open(tmp_path / "head.safetensors", framework="pt") as stored:
        kept = {name: stored.get_tensor(name)[0].contiguous() for name in stored.keys()}  # noqa: SIM118 - no mapping
        said = {name: value for name, value in stored.metadata().items() if name != "networks"}
    save_file(kept, tmp_path / "head.safetensors", metadata=said)
    state = json.loads((tmp_path / "head.json").read_text())
    del state["parameters"]["positions"]
    state["parameters"]["ensemble"] = 1
    (tmp_path / "head.json").write_text(json.dumps(state))
    again = AttentiveHead().load(tmp_path)
    assert (len(again.weights_["bias"]), again.positions) == (1, False)
    np.testing.assert_allclose(again.predict_proba(x), head.predict_proba(x), rtol=0, atol=1e-12)


def test_a_step_is_that_of_adamw() -> None:
    """Trained for one epoch of one batch and no dropout, weights move as torch's own optimiser moves them."""
    x, y = make_tokens(40)
    network = AttentiveNetwork(TOKENS, CHANNELS, heads=2, width=8, classes=2, positions=True)
    last, schedule = np.arange(40)[None] == 39, Schedule(40, 1, 5, 7, "cpu")
    (trained,) = train_members(network, units_of(x, y), last, [Member(1e-2, 3.0, 0.0)], schedule)

    weights = {name: value[None] for name, value in network.start(torch.Generator().manual_seed(7)).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    grid = torch.from_numpy(x).reshape(40, TOKENS, CHANNELS)[:39]
    logits = network.logits(leaves, (grid,), None)[0]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[:39]), reduction="sum")
    (loss / 40).backward()
    decayed = [value for value in leaves.values() if value.ndim > 2]
    plain = [value for value in leaves.values() if value.ndim <= 2]
    torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 3.0}, {"params": plain, "weight_decay": 0.0}], lr=1e-2
    ).step()
    for name, value in leaves.items():
        np.testing.assert_allclose(trained.weights[name][0], value[0].detach(), rtol=0, atol=2e-6)


def test_attention_is_that_of_a_transformer_with_one_query() -> None:
    """Keys joined to the query and values after the sum give what torch's own attention gives."""
    width, heads = 8, 2
    own = torch.nn.MultiheadAttention(width, heads, bias=False, batch_first=True).double()
    tokens, query = torch.randn(3, 5, width).double(), torch.randn(1, 1, width).double()
    with torch.no_grad():
        seen, share = own(query.expand(3, -1, -1), tokens, tokens, average_attn_weights=False)
        to_query, to_key, to_value = own.in_proj_weight.chunk(3)
        each = width // heads
        asked = (to_query @ query[0, 0]).reshape(heads, each) / each**0.5
        joined = torch.einsum("he,hec->hc", asked, to_key.reshape(heads, each, width))
        network = AttentiveNetwork(5, width, heads, width, classes=2)
        found = network.attend({"query": joined[None]}, tokens)
        values = torch.einsum("bth,btc->bhc", found, tokens)
        ours = torch.einsum("bhc,hec->bhe", values, to_value.reshape(heads, each, width)).flatten(1)
    np.testing.assert_allclose(found.transpose(1, 2), share[:, :, 0], atol=1e-12)
    np.testing.assert_allclose(own.out_proj(ours).detach(), seen[:, 0], atol=1e-12)


@pytest.mark.parametrize(("people", "asked", "networks"), [(199, None, 10), (200, None, 5), (60, 4, 4)])
def test_few_participants_are_held_back_in_tenths(people: int, asked: int | None, networks: int) -> None:
    x, y = make_tokens(people)
    head = AttentiveHead(**QUICK | {"hold_out": asked, "max_epochs": 1}).fit(x, y)
    assert len(head.weights_["bias"]) == networks == len(np.unique(head.held_by_))
    two = AttentiveHead(**QUICK | {"hold_out": asked, "max_epochs": 1, "networks": 2}).fit(x, y)
    for name, value in two.weights_.items():
        np.testing.assert_allclose(value, head.weights_[name][:2], rtol=0, atol=1e-4)
    assert np.isnan(two.held_out_proba(x)[:, 0]).mean() == pytest.approx(1 - 2 / networks, abs=0.05)


@pytest.mark.parametrize(("volumes", "epochs"), [(60, 10), (2560, 8)])
def test_patience_is_counted_in_epochs_or_steps(volumes: int, epochs: int) -> None:
    """Two steps an epoch of 60, ten of 2,560: ten epochs or 80 steps without a better loss end it."""
    head = AttentiveHead(tokens=TOKENS, learning_rate=1e-2)
    units = Units(tuple, np.zeros(volumes, np.int64), np.ones(volumes), np.arange(volumes), 7)
    assert head._schedule(units).patience == epochs


def test_held_back_participants_are_whole() -> None:
    x, y = make_tokens(90)
    people = np.repeat(np.arange(30), 3)
    head = AttentiveHead(**QUICK).fit(x, np.repeat(y[:30], 3), None, people)
    assert np.bincount(head.held_by_).tolist() == [18] * 5
    assert len({(person, part) for person, part in zip(people, head.held_by_, strict=True)}) == 30


def test_a_wrong_number_of_tokens_is_one_message() -> None:
    x, y = make_tokens(40)
    with pytest.raises(ValueError, match=r"got 384 numbers a row with tokens=7"):
        AttentiveHead(tokens=7).fit(x, y)
    with pytest.raises(ValueError, match="multiple of heads"):
        AttentiveHead(tokens=TOKENS, heads=3, width=64).fit(x, y)


def test_a_device_that_is_not_there_is_one_message() -> None:
    x, y = make_tokens(40)
    with pytest.raises(ValueError, match="expected one of cpu, cuda, auto"):
        AttentiveHead(tokens=TOKENS, device="tpu").fit(x, y)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="found none"):
            AttentiveHead(tokens=TOKENS, device="cuda").fit(x, y)
        auto, cpu = (AttentiveHead(**QUICK | {"max_epochs": 1}, device=name).fit(x, y) for name in ("auto", "cpu"))
        assert (auto.predict_proba(x) == cpu.predict_proba(x)).all()


def test_what_was_chosen_survives_the_folder(tmp_path: Path) -> None:
    x, y = make_tokens(60)
    head = AttentiveHead(tokens=TOKENS, max_epochs=2).fit(x, y)
    head.save(tmp_path)
    again = AttentiveHead().load(tmp_path)
    assert isinstance(again, AttentiveHead)
    assert (again.member_, again.n_iter_) == (head.member_, head.n_iter_)
    assert (again.attention(x) == head.attention(x)).all()
