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

from classify.heads.attentive import AttentiveHead, AttentiveNetwork
from classify.heads.contract import TrainingRows
from classify.heads.linear import LinearHead
from classify.heads.members import Found, Member, Network, Schedule, Units, find_epochs, train_for

TOKENS, CHANNELS, TELLING = 16, 24, 5
QUICK = {"tokens": TOKENS, "learning_rate": 1e-2, "weight_decay": 1.0, "max_epochs": 8}


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
    assert attention.shape == (250, head.ensemble * 4, TOKENS)
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
    x, y = make_tokens(120)
    people = np.repeat(np.arange(60), 2)
    part = TrainingRows(x, y, None, people)
    candidates = [
        QUICK
        | {"learning_rate": rate, "weight_decay": decay, "dropout": dropout}
        | {"max_epochs": 25, "patience": 2}  # so that they stop at different times
        for rate, decay, dropout in product((1e-3, 3e-3, 1e-2), (0.1, 1.0), (0.2, 0.5))
    ]
    (together,) = AttentiveHead.fit_grid([part], candidates, random_state=3)
    assert len({head.n_iter_ for head in together}) > 1
    assert len({float(head.weights_["bias"][0, 0]) for head in together}) == len(candidates)
    for head, candidate in zip(together, candidates, strict=True):
        alone = AttentiveHead(random_state=3, **candidate).fit(x, y, None, people)
        assert head.get_params() == alone.get_params()
        assert head.n_iter_ == alone.n_iter_
        for name, value in alone.weights_.items():
            np.testing.assert_allclose(head.weights_[name], value, rtol=0, atol=1e-5)
        np.testing.assert_allclose(head.predict_proba(x), alone.predict_proba(x), rtol=0, atol=1e-5)


def test_candidates_of_another_shape_train_apart() -> None:
    x, y = make_tokens(60)
    candidates = [QUICK | {"max_epochs": 2, "width": width} for width in (16, 32)]
    ((narrow, wide),) = AttentiveHead.fit_grid([TrainingRows(x, y)], candidates, random_state=0)
    assert (narrow.weights_["residual"].shape, wide.weights_["residual"].shape) == ((3, 16), (3, 32))


def test_the_candidate_with_the_smallest_loss_over_three_parts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_tokens(150)
    seen: list[dict[Member, Found]] = []
    parts: list[np.ndarray] = []

    def watch(
        network: Network, units: Units, held: np.ndarray, members: list[Member], schedule: Schedule
    ) -> list[Found]:
        found = find_epochs(network, units, held, members, schedule)
        seen.append(dict(zip(members, found, strict=True)))
        parts.append(held)
        return found

    monkeypatch.setattr("classify.heads.network.find_epochs", watch)
    found = AttentiveHead(tokens=TOKENS, max_epochs=6).fit(x, y)
    assert [(len(of_member), len(held)) for of_member, held in zip(seen, parts, strict=True)] == [(12, 1), (3, 3)]
    assert set(seen[1]) == set(sorted(seen[0], key=lambda one: seen[0][one].loss)[:3])
    assert found.member_ == min(seen[1], key=lambda one: seen[1][one].loss)
    assert found.n_iter_ == seen[1][found.member_].epoch
    assert parts[1].sum(axis=0).max() == 1
    named = {"learning_rate": found.member_.learning_rate, "weight_decay": found.member_.weight_decay}
    alone = AttentiveHead(tokens=TOKENS, max_epochs=6, **named).fit(x, y)
    np.testing.assert_allclose(alone.predict_proba(x), found.predict_proba(x), rtol=0, atol=1e-5)


def test_a_candidate_alone_is_looked_at_on_all_parts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search fits thousands of such candidates."""
    x, y = make_tokens(60)
    runs: list[int] = []

    def watch(network: Network, units: Units, held: np.ndarray, members: object, schedule: object) -> list[Found]:
        runs.append(len(held))
        return [Found(0.0, 1)]

    monkeypatch.setattr("classify.heads.network.find_epochs", watch)
    AttentiveHead(**QUICK).fit(x, y)
    assert runs == [3]


def units_of(x: np.ndarray, y: np.ndarray) -> Units:
    grid = torch.from_numpy(x).reshape(len(x), TOKENS, CHANNELS)
    return Units(lambda rows: (grid[rows],), y, np.ones(len(y)), np.arange(len(y)), 7)


def test_what_is_held_back_is_not_learned_from() -> None:
    """Labels mean nothing and are learned by heart: whoever is held back is guessed no better than by chance."""
    x, _ = make_tokens(60)
    y = np.random.default_rng(1).permutation(60) % 2
    network, member = AttentiveNetwork(TOKENS, CHANNELS, 2, 16, 2), Member(3e-2, 0.0, 0.0)
    held = np.stack([np.arange(60) % 5 == part for part in range(3)])
    (found,) = find_epochs(network, units_of(x, y), held, [member], Schedule(30, 60, 60, 0, "cpu"))
    assert found.loss > 0.9 * np.log(2)
    (weights,) = train_for(network, units_of(x, y), [member], [60], Schedule(30, 60, 60, 0, "cpu"))
    logits = network.logits(
        {name: value[None] for name, value in weights.items()}, units_of(x, y).take(range(60)), None
    )
    assert torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(y)) < 0.1


def test_it_ends_on_everybody_for_as_many_epochs_as_did_best(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_tokens(100, effect=1.0)
    asked: list[tuple[list[Member], list[int], int]] = []

    def watch(
        network: Network, units: Units, members: list[Member], epochs: list[int], schedule: Schedule
    ) -> list[dict[str, torch.Tensor]]:
        asked.append((list(members), list(epochs), len(units.codes)))
        return train_for(network, units, members, epochs, schedule)

    monkeypatch.setattr("classify.heads.network.train_for", watch)
    head = AttentiveHead(**QUICK | {"max_epochs": 40, "patience": 5}).fit(x, y)
    ((members, epochs, learned_from),) = asked
    assert learned_from == 100
    assert [member.start for member in members] == [0, 1, 2]
    assert epochs == [head.n_iter_] * 3
    assert 1 <= head.n_iter_ < 35
    first, second, _ = head.weights_["weight"]
    assert not torch.equal(first, second)


def test_a_member_is_the_same_whenever_its_company_ends() -> None:
    x, y = make_tokens(60)
    network = AttentiveNetwork(TOKENS, CHANNELS, 2, 8, 2, positions=True)
    members, schedule = [Member(1e-2, 1.0, 0.3), Member(1e-3, 1.0, 0.3, 1)], Schedule(16, 9, 5, 7, "cpu")
    _, long = train_for(network, units_of(x, y), members, [2, 5], schedule)
    (alone,) = train_for(network, units_of(x, y), members[1:], [5], schedule)
    for name, value in alone.items():
        np.testing.assert_allclose(long[name], value, rtol=0, atol=1e-6)


def test_places_are_learned_where_tokens_do_not_tell_them() -> None:
    """No token says where it is, and one place tells: only a query that knows places finds it."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    x = rng.normal(size=(800, TOKENS, CHANNELS))
    x[:, TELLING, 0] += 2.0 * y
    rows = x.reshape(800, -1).astype(np.float32)
    with_places, without = (
        auroc(AttentiveHead(tokens=TOKENS, positions=there, ensemble=1).fit(rows[:400], y[:400]), rows[400:], y[400:])
        for there in (True, False)
    )
    assert with_places > 0.85
    assert with_places > without + 0.1


def test_a_run_of_before_has_one_network_and_no_places(tmp_path: Path) -> None:
    x, y = make_tokens(60)
    head = AttentiveHead(tokens=TOKENS, max_epochs=2, ensemble=1, positions=False).fit(x, y)
    head.save(tmp_path)
    with safe_open(tmp_path / "head.safetensors", framework="pt") as stored:
        kept = {name: stored.get_tensor(name)[0].contiguous() for name in stored.keys()}  # noqa: SIM118 - no mapping
        said = {name: value for name, value in stored.metadata().items() if name not in {"ensemble", "start"}}
    save_file(kept, tmp_path / "head.safetensors", metadata=said)
    state = json.loads((tmp_path / "head.json").read_text())
    for name in ("ensemble", "positions"):
        del state["parameters"][name]
    (tmp_path / "head.json").write_text(json.dumps(state))
    again = AttentiveHead().load(tmp_path)
    assert (again.ensemble, again.positions) == (1, False)
    np.testing.assert_allclose(again.predict_proba(x), head.predict_proba(x), rtol=0, atol=1e-12)


def test_a_step_is_that_of_adamw() -> None:
    """Trained for one epoch of one batch and no dropout, weights move as torch's own optimiser moves them."""
    x, y = make_tokens(40)
    network = AttentiveNetwork(TOKENS, CHANNELS, heads=2, width=8, classes=2, positions=True)
    (trained,) = train_for(network, units_of(x, y), [Member(1e-2, 3.0, 0.0)], [1], Schedule(40, 1, 5, 7, "cpu"))

    weights = {name: value[None] for name, value in network.start(torch.Generator().manual_seed(7)).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    grid = torch.from_numpy(x).reshape(40, TOKENS, CHANNELS)
    loss = torch.nn.functional.cross_entropy(network.logits(leaves, (grid,), None)[0], torch.from_numpy(y))
    loss.backward()
    decayed = [value for value in leaves.values() if value.ndim > 2]
    plain = [value for value in leaves.values() if value.ndim <= 2]
    torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 3.0}, {"params": plain, "weight_decay": 0.0}], lr=1e-2
    ).step()
    for name, value in leaves.items():
        np.testing.assert_allclose(trained[name], value[0].detach(), rtol=0, atol=2e-6)


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


def test_held_back_participants_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_tokens(90)
    people = np.repeat(np.arange(30), 3)
    seen: list[np.ndarray] = []

    def watch(network: Network, units: Units, held: np.ndarray, members: object, schedule: object) -> list[Found]:
        seen.extend(held)
        return [Found(0.0, 1)]

    monkeypatch.setattr("classify.heads.network.find_epochs", watch)
    AttentiveHead(**QUICK).fit(x, np.repeat(y[:30], 3), None, people)
    assert len(seen) == 3
    for held in seen:
        assert held.mean() == pytest.approx(0.2)
        assert not set(people[held]) & set(people[~held])


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
