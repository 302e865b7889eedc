"""Was it trained: each family's file of random weights is not called so, whatever its biases and norms are."""

from pathlib import Path

import pytest
import torch
from small_encoders import small_encoder_of
from test_families import CASES, Case

from extract.doctor.chance import BEYOND_CHANCE, beyond_chance
from extract.doctor.report import Status
from extract.doctor.weights import examine_checkpoint, find_source
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder, freeze
from extract.encoder.families import FAMILIES
from extract.encoder.safetensors_file import export_safetensors
from extract.encoder_options import EncoderChoice

FILES = list({(case.family, case.file): case for case in CASES}.values())


def altered(encoder: Encoder, *, learned: float = 0.0, uniform: bool = False) -> Encoder:
    """The same, with biases, norms and rows that are as far from a start as any; learned: one direction's strength."""
    torch.manual_seed(5)
    weights = {}
    for name, start in encoder.module.state_dict().items():
        if name.endswith("bias") or "norm" in name:
            weights[name] = start + torch.randn_like(start) / 10
        elif "attn" in name or "mlp" in name:
            drawn = torch.rand_like(start) - 0.5 if uniform else start
            drawn = drawn * (torch.rand(len(drawn), 1) + 1e-5)  # as LayerScale does
            weights[name] = drawn + learned * drawn.std() * torch.ones(len(drawn), 1) * torch.randn(1, drawn.shape[1])
        else:
            weights[name] = start
    return freeze(encoder.architecture, weights, encoder.source, {})


@pytest.mark.parametrize("case", FILES, ids=lambda case: f"{case.family}-{case.file}")
def test_random_weights_in_the_official_layout_are_not_called_trained(reference: Path, case: Case) -> None:
    path = reference / "encoders" / case.file
    report, encoder = examine_checkpoint(path, heads=case.heads, image_size=None, which=case.which, family=case.family)
    (training,) = (check for check in report.checks if check.name == "training")
    assert training.status == Status.WARN, training.message
    source = find_source(encoder, EncoderChoice(checkpoint=path, encoder=case.family, heads=case.heads))
    assert source.training == "unclear"
    assert "look like independent draws" in source.reason


@pytest.mark.parametrize("file", ["vjepa2_hf", "vjepa3d_tiny/checkpoint.pt"])
def test_so_for_the_first_two_families(reference: Path, file: str) -> None:
    source = find_source(load_checkpoint(reference / file), EncoderChoice(checkpoint=reference / file))
    assert source.training == "unclear"


def test_two_encoders_that_were_drawn_apart_are_no_start_and_its_training(reference: Path) -> None:
    path = reference / "vjepa3d_nested" / "trainer_full.pt"
    report, encoder = examine_checkpoint(path, heads=None, image_size=None, which="context")
    assert float(report.figures["rel_l2_context_vs_target"]) > 1
    assert find_source(encoder, EncoderChoice(checkpoint=path)).training == "unclear"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_from_its_start_to_a_direction_that_was_learned(family: str, tmp_path: Path) -> None:
    start = small_encoder_of(family)
    cases = {
        "barely": start,
        "unclear": altered(start),
        "unclear 2": altered(start, uniform=True),
        "trained": altered(start, learned=1.0),
    }
    for expected, encoder in cases.items():
        path = tmp_path / f"{expected}.safetensors"
        export_safetensors(encoder, path)
        source = find_source(load_checkpoint(path), EncoderChoice(checkpoint=path))
        assert source.training == expected.split()[0], source.reason


def test_norms_at_their_start_are_a_start_whatever_the_biases(tmp_path: Path) -> None:
    start = small_encoder_of("retfound")
    state = altered(start, learned=1.0).module.state_dict()
    state |= {name: tensor for name, tensor in start.module.state_dict().items() if "norm" in name}
    export_safetensors(freeze(start.architecture, state, "norms", {}), tmp_path / "norms.safetensors")
    path = tmp_path / "norms.safetensors"
    assert find_source(load_checkpoint(path), EncoderChoice(checkpoint=path)).training == "barely"


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (24, 72), (192, 48)])
def test_chance_is_one_at_any_size(rows: int, columns: int) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(columns, rows)
    found = beyond_chance(layer)
    weight = layer.weight / layer.weight.square().mean(1, keepdim=True).sqrt()
    exact = float(torch.linalg.matrix_norm(weight.detach(), 2)) / (rows**0.5 + columns**0.5)
    assert found == pytest.approx(exact, rel=0.02)
    assert 0.7 < exact < BEYOND_CHANCE
    torch.nn.init.zeros_(layer.weight)
    assert beyond_chance(layer) == 0
    assert beyond_chance(torch.nn.Identity()) is None
