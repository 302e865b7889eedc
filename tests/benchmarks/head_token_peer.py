"""What a user would write in torch for patch tokens: an attentive block with learned positions, and early stopping."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from head_peers import Rows, judge
from heads_measured import macro_auroc
from torch import nn

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable

RATES, DECAYS = (3e-4, 1e-3, 3e-3), (0.01, 0.3)
EPOCHS, PATIENCE, BATCH = 40, 6, 64


class Probe(nn.Module):
    """A learned vector for each place, a query, multi-head attention, LayerNorm and a linear layer."""

    def __init__(self, tokens: int, channels: int, classes: int, heads: int = 4) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, channels))
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.attend = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm, self.drop = nn.LayerNorm(channels), nn.Dropout(0.3)
        self.classify = nn.Linear(channels, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = tokens + self.places
        out = self.attend(self.query.expand(len(tokens), -1, -1), seen, seen, need_weights=False)[0]
        scores: torch.Tensor = self.classify(self.drop(self.norm(out[:, 0])))
        return scores


class Fitted:
    """A probe as something with probabilities."""

    def __init__(self, probe: Probe, tokens: int) -> None:
        self.probe, self.tokens = probe, tokens

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = self.probe(torch.from_numpy(x).float().reshape(len(x), self.tokens, -1))
        return np.asarray(logits.double().softmax(dim=1).numpy())


def search_attentive(train: FeatureTable, fresh: FeatureTable, fold: Mapping[str, int], seed: int) -> float:
    """Try rates and decays with one fold held back, keep the best epoch of the best, and judge fresh participants."""
    standard = Standardiser.fit(train.x, train.protocol, tokens=train.tokens)
    rows, others = (Rows(standard.transform(one.x, one.protocol), one.y, one.participant) for one in (train, fresh))
    held = np.array([fold[name] for name in rows.person.tolist()]) == 0
    found = [_train(rows, held, rate, decay, seed, train.tokens) for rate, decay in product(RATES, DECAYS)]
    best = max(found, key=lambda one: one[0])[1]
    return macro_auroc(*judge(best, others))


def _train(rows: Rows, held: np.ndarray, rate: float, decay: float, seed: int, tokens: int) -> tuple[float, Fitted]:
    torch.manual_seed(seed)
    x = torch.from_numpy(rows.x[~held]).float().reshape(int((~held).sum()), tokens, -1)
    y = torch.from_numpy(rows.y[~held])
    probe = Probe(tokens, x.shape[2], int(rows.y.max()) + 1)
    fitted, optimiser = Fitted(probe, tokens), torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=decay)
    best, at, kept = -1.0, 0, {name: value.clone() for name, value in probe.state_dict().items()}
    for epoch in range(EPOCHS):
        probe.train()
        for batch in torch.split(torch.randperm(len(x)), BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(probe(x[batch]), y[batch]).backward()
            optimiser.step()
        probe.eval()
        score = macro_auroc(*judge(fitted, rows.where(held)))
        if score > best:
            best, at, kept = score, epoch, {name: value.clone() for name, value in probe.state_dict().items()}
        if epoch - at >= PATIENCE:
            break
    probe.load_state_dict(kept)
    return best, fitted
