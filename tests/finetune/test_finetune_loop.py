"""The loop: it learns, it keeps the best weights, it stops in time, and however a batch is split it is one batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from finetune_study import (
    IMAGE_SIZE,
    feed_of,
    plain_standardiser,
    rows_of,
    scans,
    small_encoder,
    trainer_of,
    write_volumes,
)

from classify.features.standardise import Standardiser
from embeddings_store.errors import RunError
from extract.device.cpu import CpuBackend
from extract.dicom.reader import read_dicom
from extract.preprocess import preprocess
from extract.preset import PRESETS
from finetune.data.feeds import LabelledBatch, TokenFeed, VectorFeed, VolumeFeed
from finetune.data.images import ImageCache
from finetune.data.sampling import Draw, loss_weights
from finetune.errors import DivergedError
from finetune.model.blocks import dropping_paths, recomputing
from finetune.model.network import VECTORS, VolumeClassifier, groups_of, host_weights
from finetune.parallel.sharing import Alone, Parallel
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.training import loop
from finetune.training.epochs import BestWeights, Epoch, compare_stages, has_stalled
from finetune.training.loop import predict, train_stage
from finetune.training.stages import set_trainable
from finetune.training.step import add_gradients, seeded, telling_what_fits

QUIET = ("stages.all.augment=0", "stages.all.drop_path=0", "stages.all.patience=null", "stages.all.weight_decay=0")
CONFIG = load_config(
    None,
    changes=(*QUIET, "stages.all.encoder_learning_rate=3e-3", "stages.all.learning_rate=1e-2", "batch_size=4"),
    epochs=40,
)
EIGHT = [0, 1] * 4


def volumes_in(folder: Path, count: int = 8, spread: float = 1.0) -> tuple[ImageCache, list[str]]:
    images = ImageCache(folder, "none", "float32")
    volumes = np.random.default_rng(0).normal(0, spread, (count, 1, *IMAGE_SIZE)).astype(np.float32)
    return images, write_volumes(images, volumes)


def new_model(classes: int = 2, config: FinetuneConfig = CONFIG, stage: str = "all") -> VolumeClassifier:
    encoder = small_encoder()
    model = VolumeClassifier(encoder, plain_standardiser(encoder), classes, 0, config.head)
    set_trainable(model, config.stages.find(stage))
    return model


def vector_feed(x: np.ndarray, y: list[int], split: str, config: FinetuneConfig = CONFIG) -> VectorFeed:
    table = rows_of(y, split, [f"{split}{n}" for n in range(len(y))], x=np.pad(x, ((0, 0), (0, 48 - x.shape[1]))))
    weights = np.ones(len(y))
    return VectorFeed(table, CpuBackend("fp32"), weights, 2)


def train(
    model: VolumeClassifier, feeds: tuple[object, object], config: FinetuneConfig, **changes: object
) -> list[Epoch]:
    stage = "head" if isinstance(feeds[0], VectorFeed) else "all"
    return train_stage(trainer_of(model, config, 2, **changes), stage, *feeds, [])  # type: ignore[arg-type]


def test_eight_phantom_volumes_are_learned_by_heart(phantom: Path, tmp_path: Path) -> None:
    files = scans(phantom, "train")[:8]
    volumes = [preprocess(read_dicom(path.read_bytes()), PRESETS["pretrain"], IMAGE_SIZE) for path in files]
    images = ImageCache(tmp_path, "none")
    feed = feed_of(images, rows_of(EIGHT, "train", write_volumes(images, np.stack(volumes))), CONFIG, 2)
    history = train(new_model(), (feed, feed), CONFIG)
    assert history[0].train_loss > 0.6
    assert history[-1].train_loss < 0.01
    assert history[-1].val_balanced_accuracy == 1.0


def separable(rows: int = 16) -> tuple[np.ndarray, list[int]]:
    rng, y = np.random.default_rng(1), [n % 2 for n in range(rows)]
    x = rng.normal(size=(rows, 3))
    x[:, 0] += 4 * np.array(y)
    return x, y


def head_config(*changes: str) -> FinetuneConfig:
    return load_config(None, changes=("batch_size=4", "stages.head.patience=null", *changes))


def test_the_best_weights_are_kept_and_not_the_last() -> None:
    x, y = separable()
    # What is right in train is wrong in val: every step of learning makes val worse.
    feeds = vector_feed(x, y, "train"), vector_feed(x, [1 - label for label in y], "val")
    model, config = new_model(stage="head"), head_config("stages.head.epochs=8")
    trainer = trainer_of(model, config, 2)
    history = train_stage(trainer, "head", *feeds, [])
    best = trainer.best
    assert best.epoch == min(history, key=lambda epoch: (-(epoch.val_balanced_accuracy or 0), epoch.val_log_loss))
    assert best.epoch != history[-1]

    def log_loss() -> float:
        people = predict(trainer, feeds[1])["participant"]
        return float(-np.log(people.probability[np.arange(16), people.label]).mean())

    assert log_loss() == pytest.approx(history[-1].val_log_loss)
    best.restore(model)
    assert log_loss() == pytest.approx(best.epoch.val_log_loss)
    assert log_loss() < history[-1].val_log_loss - 1e-4


def test_of_equal_accuracies_the_smaller_log_loss_wins_and_of_equals_the_first() -> None:
    best, model = BestWeights(), new_model()
    first = Epoch("head", 1, 0.5, 0.5, 0.7)
    assert best.offer(first, model)
    assert not best.offer(replace(first, epoch=2), model)
    assert best.offer(replace(first, epoch=3, val_log_loss=0.6), model)
    assert not best.offer(replace(first, epoch=4, val_balanced_accuracy=None, val_log_loss=0.1), model)
    assert best.offer(replace(first, epoch=5, val_balanced_accuracy=0.75, val_log_loss=2.0), model)


def test_a_stage_stops_when_val_has_not_improved_for_long_enough() -> None:
    x, y = separable()
    feeds = vector_feed(x, y, "train"), vector_feed(x, [1 - label for label in y], "val")
    patient = train(new_model(stage="head"), feeds, head_config("stages.head.epochs=20"))
    hasty = train(new_model(stage="head"), feeds, head_config("stages.head.epochs=20", "stages.head.patience=3"))
    assert len(patient) == 20
    best = max(range(20), key=lambda n: patient[n].score)
    assert len(hasty) == best + 1 + 3 < 20
    assert hasty == patient[: len(hasty)]


def test_patience_counts_from_the_best_epoch() -> None:
    scores = [0.5, 0.6, 0.4, 0.6, 0.5]
    history = [Epoch("head", n, 0.0, score, 1.0) for n, score in enumerate(scores)]
    assert [has_stalled(history[:n], 2) for n in range(6)] == [False, False, False, False, True, True]
    assert not has_stalled(history, None)
    assert not has_stalled(history[:2], 5)


def first_step(monkeypatch: pytest.MonkeyPatch, warmup: float) -> float:
    """How far the first step moves the head."""
    x, y = separable()
    config = head_config("batch_size=8", "stages.head.epochs=5", f"stages.head.warmup_fraction={warmup}")
    model = new_model(stage="head")
    before, seen = model.head.weight.detach().clone(), []
    real = VectorFeed.logits

    def watch(self: VectorFeed, model: VolumeClassifier, batch: LabelledBatch) -> torch.Tensor:
        seen.append(float((model.head.weight.detach() - before).abs().max()))
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(VectorFeed, "logits", watch)
        train(model, (vector_feed(x, y, "train"), vector_feed(x, y, "val")), config)
    return seen[1]


def test_the_warm_up_keeps_the_first_step_small(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_step(monkeypatch, 0.9) == pytest.approx(first_step(monkeypatch, 0.0) / 9, rel=0.05)


def test_class_weights_pull_towards_the_rare_class() -> None:
    rng = np.random.default_rng(2)
    y = [0] * 14 + [1] * 2
    people = [f"{n}" for n in range(16)]
    x = rng.normal(size=(16, 48)).astype(np.float32) * 0.05
    share = {}
    for weighted in (False, True):
        config = head_config(f"class_weights={str(weighted).lower()}", "stages.head.epochs=40")
        table = rows_of(y, "train", [f"t{n}" for n in range(16)], people, x)
        weights = loss_weights(table, config.sampling, class_weights=config.class_weights)
        feed = VectorFeed(table, CpuBackend("fp32"), weights, 2)
        model = new_model(stage="head")
        train(model, (feed, replace(feed, table=replace(table, split=np.array(["val"] * 16)))), config)
        share[weighted] = float(
            model(torch.from_numpy(x), torch.zeros(16, dtype=torch.long), VECTORS).softmax(1)[:, 1].mean().detach()
        )
    assert share[False] < 0.3
    assert 0.4 < share[True] < 0.7


def test_a_class_missing_in_val_leaves_the_accuracy_absent() -> None:
    x, y = separable()
    history = train(
        new_model(stage="head"), (vector_feed(x, y, "train"), vector_feed(x, [0] * 16, "val")),
        head_config("stages.head.epochs=2"),
    )  # fmt: skip
    assert {epoch.val_balanced_accuracy for epoch in history} == {None}
    assert all(np.isfinite(epoch.val_log_loss) for epoch in history)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    feed = vector_feed(np.full((4, 3), np.inf), [0, 1, 0, 1], "train")
    with pytest.raises(DivergedError, match=r"stage head, epoch 1: the loss is not finite; lower stages\.head\.learn"):
        train(new_model(stage="head"), (feed, feed), head_config())


@pytest.mark.parametrize("last", [np.nan, np.inf, -np.inf])
def test_weights_that_the_last_step_spoils_are_never_the_best(last: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = separable()
    feed, taken, steps = vector_feed(x, y, "train"), loop._take_step, []

    def spoil(parallel: Parallel, *args: object, **more: object) -> torch.Tensor:
        loss = taken(parallel, *args, **more)
        steps.append(loss)
        if len(steps) == 8:  # the last of the second epoch, whose loss was finite
            with torch.no_grad():
                next(weight for weight in parallel.model.parameters() if weight.requires_grad)[..., :1] = last
        return loss

    monkeypatch.setattr(loop, "_take_step", spoil)
    trainer = trainer_of(new_model(stage="head"), head_config("stages.head.epochs=2"), 2)
    with pytest.raises(DivergedError, match=r"the model's answers for train are not finite; lower the learning rates"):
        train_stage(trainer, "head", feed, feed, [])
    assert trainer.best.epoch is not None
    assert trainer.best.epoch.epoch == 1


def gradients(model: VolumeClassifier, feed: VolumeFeed, parts: list[list[Draw]]) -> dict[str, torch.Tensor]:
    model.set_training(statistics=False)
    with seeded(CpuBackend("fp32"), (0,)):
        add_gradients(Alone(model), feed, list(feed.batches(parts)), sum(map(len, parts)))
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("head", ["linear", "mlp", "ordinal", "attentive"])
def test_four_forwards_of_two_are_one_forward_of_eight(tmp_path: Path, head: str) -> None:
    config = load_config(None, changes=(f"head.kind={head}", *(["head.dropout=0"] if head == "mlp" else [])))
    images, ids = volumes_in(tmp_path)
    feed = feed_of(images, rows_of(EIGHT, "train", ids), config, 3)
    draws = [Draw(row, 0) for row in range(8)]
    whole = gradients(new_model(3, config), feed, [draws])
    parts = gradients(new_model(3, config), feed, [draws[n : n + 2] for n in range(0, 8, 2)])
    assert whole.keys() == parts.keys()
    assert max(float(grad.abs().max()) for grad in whole.values()) > 1e-3
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, atol=1e-5, rtol=1e-4, msg=name)


def test_accumulated_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    images, ids = volumes_in(tmp_path)
    ended = []
    for micro in ("null", "2"):
        config = load_config(None, changes=(*QUIET, f"micro_batch_size={micro}", "stages.all.epochs=3"))
        feed = feed_of(images, rows_of(EIGHT, "train", ids), config, 2)
        model = new_model(config=config)
        train(model, (feed, feed), config)
        ended.append(host_weights(model))
    assert all(torch.allclose(ended[0][name], ended[1][name], atol=1e-5) for name in ended[0])


@pytest.mark.parametrize("stage", ["all", "last"])
@pytest.mark.parametrize("reentrant", [False, True])  # torch_xla's is; it needs a gradient to come in
def test_recomputed_activations_give_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, reentrant: bool
) -> None:
    backend, again_by = CpuBackend("fp32"), torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        backend, "computed_again", lambda forward, tokens: again_by(forward, tokens, use_reentrant=reentrant)
    )
    config = load_config(None, changes=(*QUIET, "stages.last.blocks=1"))
    images, ids = volumes_in(tmp_path, 2)
    feed = feed_of(images, rows_of([0, 1], "train", ids), CONFIG, 2)
    draws = [[Draw(0, 0), Draw(1, 0)]]
    plain, again = (new_model(config=config, stage=stage) for _ in range(2))
    kept = gradients(plain, feed, draws)
    with recomputing(again.encoder, on=True, backend=backend):
        assert "forward" in vars(again.encoder.blocks[0])
        recomputed = gradients(again, feed, draws)
        with torch.no_grad():
            again(torch.zeros(1, 1, *IMAGE_SIZE), torch.zeros(1, dtype=torch.long))
    assert "forward" not in vars(again.encoder.blocks[0])
    assert kept.keys() == recomputed.keys()
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_dropped_paths_are_as_often_as_asked_and_change_nothing_in_the_mean() -> None:
    encoder = small_encoder(depth=3).module
    encoder.train()
    seen: list[torch.Tensor] = []
    with dropping_paths(encoder, 0.5):
        encoder.blocks[2].mlp.register_forward_hook(lambda part, given, output: seen.append(output.detach()))
        encoder.blocks[0].mlp.register_forward_hook(lambda part, given, output: seen.append(output.detach()))
        with seeded(CpuBackend("fp32"), (0,)), torch.no_grad():
            encoder(torch.ones(1, 1, *IMAGE_SIZE).expand(400, -1, -1, -1, -1))
        first, last = seen
        assert (first.abs().amax((1, 2)) > 0).all()
        kept = last.abs().amax((1, 2)) > 0
        assert 0.4 < float(kept.float().mean()) < 0.6
        encoder.eval()
        torch.testing.assert_close(
            encoder(torch.ones(1, 1, *IMAGE_SIZE))["last"], encoder(torch.ones(1, 1, *IMAGE_SIZE))["last"]
        )
    assert not any(block.attn._forward_hooks for block in encoder.blocks)


def test_bf16_arithmetic_stays_near_and_its_weights_stay_float32(tmp_path: Path) -> None:
    encoder = small_encoder()
    models = [VolumeClassifier(encoder, plain_standardiser(encoder), 2, 0, bf16=bf16) for bf16 in (False, True)]
    volumes = torch.randn(2, 1, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    exact, rounded = (model(volumes, torch.zeros(2, dtype=torch.long)) for model in models)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=5e-3, rtol=5e-2)
    rounded.sum().backward()
    assert {weight.grad.dtype for weight in models[1].head.parameters()} == {torch.float32}


class LittleMemory(VolumeFeed):
    """A device on which so many volumes fit into one forward."""

    fitting = 3

    def logits(self, model: VolumeClassifier, batch: LabelledBatch) -> torch.Tensor:
        if len(batch.inputs) > self.fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().logits(model, batch)


@pytest.mark.parametrize(
    ("fitting", "said"), [(3, "2 fit: use --set micro_batch_size=2"), (0, "with one volume a forward")]
)
def test_lack_of_memory_tells_what_fits(
    tmp_path: Path, fitting: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LittleMemory, "fitting", fitting)
    images, ids = volumes_in(tmp_path)
    rows = rows_of(EIGHT, "train", ids)
    config = load_config(None, changes=QUIET)
    feed = LittleMemory(feed_of(images, rows, config, 2).dataset, CpuBackend("fp32"))
    with pytest.raises(RunError, match="out of memory") as refused:
        train(new_model(), (feed, feed), config)
    assert said in str(refused.value)


def test_in_several_processes_the_words_say_whose_share_is_meant(tmp_path: Path) -> None:
    images, ids = volumes_in(tmp_path)
    feed = LittleMemory(feed_of(images, rows_of(EIGHT, "train", ids), CONFIG, 2).dataset, CpuBackend("fp32"))
    parallel = Alone(new_model())
    parallel.size = 4
    part = next(feed.batches([[Draw(row, 0) for row in range(8)]]))
    said = "2 fit: use --set micro_batch_size=2 on each of 4 processes"
    with pytest.raises(RunError, match=said), telling_what_fits(parallel, feed, part):
        feed.logits(parallel.net, part)


def test_another_failure_of_torch_is_not_taken_for_lack_of_memory(tmp_path: Path) -> None:
    images, ids = volumes_in(tmp_path, 2)
    feed = feed_of(images, rows_of([0, 1], "train", ids), CONFIG, 2)
    part = next(feed.batches([[Draw(0, 0), Draw(1, 0)]]))
    with pytest.raises(RuntimeError, match="shapes"), telling_what_fits(Alone(new_model()), feed, part):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_stored_vectors_and_tokens_give_the_logits_of_the_volumes(tmp_path: Path) -> None:
    images, ids = volumes_in(tmp_path, 4)
    encoder = small_encoder()
    with torch.no_grad():
        tokens = encoder.module(torch.from_numpy(images.stack(ids)))["last"].numpy()
    protocol = np.array(["a", "b"] * 12)
    noise = np.random.default_rng(3).normal(0, 0.1, (24, 48)).astype(np.float32)
    fitted = Standardiser.fit(np.repeat(tokens.mean(1), 6, axis=0) + noise, protocol)
    assert fitted.protocols == ("a", "b")
    raw = replace(rows_of([0, 1, 0, 1], "val", ids, x=tokens.mean(1)), protocol=protocol[:4])
    weights, group, backend = np.ones(4), groups_of(fitted, raw.protocol), CpuBackend("fp32")
    model = VolumeClassifier(encoder, fitted, 2, seed=0)
    volumes = feed_of(images, raw, CONFIG, 2)
    feeds = (
        replace(volumes, dataset=replace(volumes.dataset, group=group)),
        VectorFeed(raw.standardised(fitted), backend, weights, 2),
        TokenFeed(raw, backend, weights, 2, group, lambda wanted: tokens[[ids.index(name) for name in wanted]]),
    )
    draws = [[Draw(row, 0) for row in (3, 0, 1)]]
    with torch.no_grad():
        whole, stored, pooled = (feed.logits(model, next(iter(feed.batches(draws)))) for feed in feeds)
    torch.testing.assert_close(stored, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, whole, atol=1e-5, rtol=0)


def test_padding_weighs_nothing(tmp_path: Path) -> None:
    images, ids = volumes_in(tmp_path, 3)
    feed = feed_of(images, rows_of([0, 1, 1], "train", ids), CONFIG, 2)
    draws = [[Draw(row, 0) for row in range(3)]]
    padded = replace(feed, pad_to=4)
    few, filled = (next(each.batches(draws)).inputs for each in (feed, padded))
    assert torch.equal(filled, torch.cat([few, few[:1]]))
    plain, with_padding = gradients(new_model(), feed, draws), gradients(new_model(), padded, draws)
    assert all(torch.allclose(plain[name], with_padding[name], atol=1e-6) for name in plain)
    trainer = trainer_of(new_model(), CONFIG, 2)
    one, two = (predict(trainer, each)["volume"].logits for each in (feed, padded))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_seeded_draws_leave_no_trace() -> None:
    before = torch.get_rng_state()
    with seeded(CpuBackend("fp32"), (1, 2)):
        one = torch.rand(3)
    with seeded(CpuBackend("fp32"), (1, 3)):
        other = torch.rand(3)
    with seeded(CpuBackend("fp32"), (1, 2)):
        assert torch.equal(torch.rand(3), one)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_record_says_which_stage_did_not_pay() -> None:
    history = [Epoch("head", 1, 0.0, 0.5, 1.0), Epoch("last", 1, 0.0, 0.7, 1.0), Epoch("all", 1, 0.0, 0.6, 1.0)]
    compared = compare_stages(history)
    assert compared["balanced_accuracy"] == {"head": 0.5, "last": 0.7, "all": 0.6}
    assert compared["note"] == "stage all did not improve on stage last on val"
    assert "at least as well" in str(compare_stages(history[:2])["note"])
