"""What a head begins as: the probe of the vectors of train, where it can be."""

import numpy as np
import pytest
import torch
from finetune_study import plain_standardiser, rows_of, small_encoder

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from classify.heads.linear import LinearHead
from extract.device.cpu import CpuBackend
from finetune.model.network import VECTORS, VolumeClassifier
from finetune.recipe.load import load_config
from finetune.training.first_head import fit_probe
from finetune.training.run_stages import new_model

COUNT, WIDTH = 60, 48


def vectors(labels: list[int]) -> FeatureTable:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(labels), WIDTH)) + 0.7 * np.array(labels)[:, None]
    return rows_of(labels, "train", [f"v{n}" for n in range(len(labels))], x=x)


def begun(table: FeatureTable, *changes: str, classes: int = 3) -> tuple[VolumeClassifier, list[str]]:
    told: list[str] = []
    standardiser = Standardiser.fit(table.x, table.protocol)
    config = load_config(None, changes=("precision=fp32", *changes))
    model = new_model(config, small_encoder(), CpuBackend("fp32"), standardiser, classes, 0, table, told.append)
    return model, told


def is_drawn(model: VolumeClassifier, *changes: str, classes: int = 3) -> bool:
    encoder, config = small_encoder(), load_config(None, changes=changes)
    drawn = VolumeClassifier(encoder, plain_standardiser(encoder), classes, 0, config.head)
    return all(torch.equal(weight, model.state_dict()[name]) for name, weight in drawn.state_dict().items()
               if name.startswith("head."))  # fmt: skip


@pytest.mark.parametrize("head", ["linear", "attentive"])
def test_a_linear_or_attentive_head_begins_as_the_probe(head: str) -> None:
    table = vectors([0, 1, 2] * (COUNT // 3))
    model, told = begun(table, f"head.kind={head}")
    probe = fit_probe(table, 3, 0).head
    assert isinstance(probe, LinearHead)
    rows = table.standardised(Standardiser.fit(table.x, table.protocol)).x
    expected = probe.decision_logits(rows)
    with torch.no_grad():
        said = model(torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.long), VECTORS)
    np.testing.assert_allclose(said.numpy(), expected, atol=1e-5)
    assert (expected.argmax(1) == table.y).mean() > 0.8
    assert told == [f"the head begins as the linear probe: C {probe.C:.3g}, chosen inside train"]


@pytest.mark.parametrize("change", ["first_head=drawn", "head.kind=mlp", "head.kind=ordinal"])
def test_other_heads_begin_as_they_are_drawn(change: str) -> None:
    model, told = begun(vectors([0, 1, 2] * (COUNT // 3)), change)
    assert is_drawn(model, change)
    assert told == []


@pytest.mark.parametrize(
    ("labels", "why"), [([0] * 10 + [1] * 10 + [2], "a class has one participant"), ([0, 1] * 20, "lacks a class")]
)
def test_where_no_probe_can_be_fitted_that_is_said(labels: list[int], why: str) -> None:
    model, told = begun(vectors(labels))
    assert is_drawn(model)
    assert len(told) == 1
    assert "the head begins with random weights, and not as the probe" in told[0]
    assert why in told[0]
