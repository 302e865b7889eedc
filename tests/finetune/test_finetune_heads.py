"""Heads: what they compute, and that they begin where a linear probe begins."""

import numpy as np
import pytest
import torch
from finetune_study import plain_standardiser, small_encoder
from torch import nn

from embeddings_store.errors import UsageError
from finetune.model.heads import AttentivePool, BatchNorm, MeanPool, Ordinal, new_head, new_pool
from finetune.model.network import TOKENS, VolumeClassifier, host_weights
from finetune.recipe.config import AttentiveConfig, HeadConfig, LinearConfig, MlpConfig, OrdinalConfig

KINDS: list[HeadConfig] = [
    LinearConfig(), MlpConfig(kind="mlp"), OrdinalConfig(kind="ordinal"), AttentiveConfig(kind="attentive"),
]  # fmt: skip
SAMPLE = torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("classes", [2, 4])
def test_every_head_gives_a_logit_for_each_class_and_learns(kind: HeadConfig, classes: int) -> None:
    torch.manual_seed(0)
    encoder = small_encoder()
    model = VolumeClassifier(encoder, plain_standardiser(encoder), classes, 0, kind)
    tokens = torch.randn(24, 5, 48)
    label = torch.arange(24) % classes
    tokens[:, :, 0] += 3 * label[:, None]
    parts = [*model.head.parameters(), *model.pool.parameters()]
    optimiser = torch.optim.Adam(parts, lr=0.02)
    model.train()
    for _ in range(80):
        logits = model(tokens, torch.zeros(24, dtype=torch.long), TOKENS)
        loss = nn.functional.cross_entropy(logits, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logits.shape == (24, classes)
    model.eval()
    right = model(tokens, torch.zeros(24, dtype=torch.long), TOKENS).argmax(1) == label
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_same_seed_gives_the_same_head(kind: HeadConfig) -> None:
    one, two, other = (host_weights(new_head(kind, 48, 3, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_mlp_has_the_layers_of_the_plan() -> None:
    head = new_head(MlpConfig(kind="mlp"), 768, 4, 0)
    linears = [(part.in_features, part.out_features) for part in head.modules() if isinstance(part, nn.Linear)]
    assert linears == [(768, 512), (512, 256), (256, 4)]
    assert sum(isinstance(part, BatchNorm) for part in head.modules()) == 2
    assert [part.p for part in head.modules() if isinstance(part, nn.Dropout)] == [0.5, 0.5]


def test_a_batch_of_one_uses_the_running_statistics() -> None:
    norm = BatchNorm(4)
    norm.train()
    x = torch.randn(1, 4)
    torch.testing.assert_close(norm(x), x / (1 + norm.eps) ** 0.5)
    assert norm.num_batches_tracked == 0


def test_running_statistics_are_used_as_torch_uses_them() -> None:
    norm, own = BatchNorm(4), nn.BatchNorm1d(4)
    for part in (norm, own):
        torch.manual_seed(0)
        nn.init.normal_(part.weight)
        nn.init.normal_(part.bias)
        for _ in range(3):
            part.train()(torch.randn(16, 4) * torch.tensor([1.0, 9.0, 0.1, 2.0]) + 3)
        part.eval()
    x = torch.randn(5, 4)
    for given in (x, x[:1]):
        found, expected = (part(given) for part in (norm, own))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(*torch.autograd.grad([found.sum(), expected.sum()], [norm.weight, own.weight]))


def test_attention_begins_as_the_mean_and_then_looks_where_it_pays() -> None:
    pool = new_pool(AttentiveConfig(kind="attentive", heads=4), 48)
    torch.testing.assert_close(pool(SAMPLE), MeanPool()(SAMPLE))
    assert isinstance(pool, AttentivePool)
    with torch.no_grad():
        pool.query[:] = 50 * SAMPLE[0, 2].reshape(4, 12)
    torch.testing.assert_close(pool(SAMPLE)[0], SAMPLE[0, 2], atol=1e-3, rtol=1e-3)


def test_attention_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="divides the encoder's width 48, got 5"):
        new_pool(AttentiveConfig(kind="attentive", heads=5), 48)


def test_an_ordinal_head_gives_probabilities_of_ordered_classes() -> None:
    head = Ordinal(4, 4)
    with torch.no_grad():
        head.score.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        head.first.fill_(-1.0)
        head.steps.copy_(torch.tensor([0.3, 1.2]))
    x = torch.zeros(7, 4)
    x[:, 0] = torch.linspace(-40, 40, 7)
    logits = head(x)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(7))
    assert logits.argmax(1).tolist() == sorted(logits.argmax(1).tolist())
    threshold = torch.tensor([-1.0, *(-1 + np.log1p(np.exp([0.3, 1.2])).cumsum())], dtype=torch.float32)
    above = torch.sigmoid(x[3, 0] - threshold)
    expected = torch.cat([1 - above[:1], above[:-1] - above[1:], above[-1:]])
    torch.testing.assert_close(logits[3].exp(), expected, atol=1e-6, rtol=1e-5)
