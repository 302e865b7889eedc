"""Every published encoder from its official file, compared with the numbers of its own code, block by block."""

import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from small_encoders import small_encoder_of
from torch import Tensor

from embeddings_store.errors import UsageError
from extract.device.cpu import CpuBackend
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.families import FAMILIES
from extract.encoder.geometry import resolve_heads
from extract.encoder.module import prefix_of
from extract.encoder.random_init import random_twin
from extract.encoder.safetensors_file import export_safetensors
from extract.errors import CheckpointError


@dataclass(frozen=True)
class Case:
    """A file, an input, and what its layers must be; last: the global token stands behind the patches."""

    family: str
    file: str
    arrays: str
    image: str
    expected: dict[str, str]
    heads: int | None = 3
    which: str | None = None
    last: bool = False
    prefix: str | None = None
    tolerance: float = 2e-5


VIDEO = {"1": "square_no_block_1", "last": "square_no_last"}


def _blocks(count: int, name: str = "block_{}") -> dict[str, str]:
    return {str(number): name.format(number) for number in range(1, count + 1)}


def _hidden(folder: str, family: str) -> Case:
    wanted = {**_blocks(2, "hidden_{}"), "last": "last_hidden_state"}
    return Case(family, f"hf_slices/{folder}", f"hf_slices/{folder}/arrays.npz", "image", wanted, heads=None)


def _case(family: str, folder: str, file: str, image: str, expected: dict[str, str], **rest: object) -> Case:
    return Case(family, f"{folder}/{file}", f"{folder}/arrays.npz", image, expected, **rest)  # type: ignore[arg-type]


V1, V2, V21 = "checkpoint.pth.tar", "checkpoint.pt", "checkpoint.pt"
GREY = {"1": "target_grey_block_1", "3": "target_grey_block_3"}
STREAM = {**_blocks(2, "block_{}_stream"), "3": "block_3_branch", "last": "tokens_normed_branch"}
MAE = {**_blocks(3), "last": "last_after_norm"}
CASES = [
    _case("vjepa1", "vjepa1_pt", V1, "grey_input", {**GREY, "last": "target_grey_last"}),
    _case("vjepa1", "vjepa1_pt", V1, "rgb_input", {"last": "target_rgb_last"}, which="target"),
    _case("vjepa1", "vjepa1_pt", V1, "larger_input", {"last": "target_larger_last"}),
    _case("vjepa1", "vjepa1_pt", V1, "grey_input", {"last": "encoder_grey_last"}, which="context"),
    _case("vjepa1", "vjepa1_pt", V1, "rgb_input", {"last": "encoder_rgb_last"}, which="encoder"),
    _case("vjepa1", "vjepa1_pt", V1, "larger_input", {"last": "encoder_larger_last"}, which="context"),
    _case("vjepa1", "vjepa1_pt", "model.safetensors", "grey_input", {"last": "target_grey_last"}),
    _case("vjepa2", "vjepa2_pt", V2, "square_no_input", {**VIDEO, "3": "square_no_block_3"}),
    _case("vjepa2", "vjepa2_pt", V2, "rgb_input", {"3": "rgb_block_3", "last": "rgb_last"}),
    _case("vjepa21", "vjepa21_pt", V21, "square_no_input", {**VIDEO, "12": "square_no_block_12"}, heads=2),
    _case("vjepa21", "vjepa21_pt", V21, "rgb_input", {"12": "rgb_block_12", "last": "rgb_last"}, heads=2),
    _case("vjepa21", "vjepa21_pt", V21, "image_input", {"12": "image_block_12", "last": "image_last"}, heads=2),
    _case("retfound", "retfound_mae", "checkpoint.pth", "image", MAE),
    _case("octcube", "octcube", "checkpoint.pth", "image", STREAM),
    _case("octcube", "octcube", "checkpoint.pth", "image_9", {"3": "block_3_branch_9"}, tolerance=1e-4),
    _case("octcube", "octcube", "checkpoint.pth", "image_highres", {"3": "block_3_branch_highres"}),
    _case("dinov2", "retfound_dinov2", "checkpoint.pth", "image", {**_blocks(3), "last": "tokens"}),
    _case("dinov2", "retfound_dinov2", "checkpoint.pth", "image_84", {"last": "tokens_84"}),
    _hidden("dinov2", "dinov2"),
    _hidden("dinov2_with_registers", "dinov2_registers"),
    _case("mirage", "mirage", "checkpoint.pth", "bscan", {**_blocks(3), "last": "block_3"}, last=True),
    _case("mirage", "mirage", "model.safetensors", "bscan", {**_blocks(3), "last": "block_3"}, last=True),
    _case("mirage", "mirage", "checkpoint.pth", "bscan_160", {"3": "block_3_160"}, last=True),
    _case("visionfm", "visionfm", "checkpoint.pth", "image", {**_blocks(5, "normed_block_{}"), "last": "last"}),
    _case("visionfm", "visionfm", "checkpoint.pth", "larger", {"last": "larger_last"}),
    _case("visionfm", "visionfm", "checkpoint.pth", "slices_input", {"last": "slices_last"}, prefix="slices_cls"),
    _hidden("dinov3_vit", "dinov3"),
    _hidden("siglip_vision_model", "siglip"),
]  # fmt: skip
REFERENCE = Path(__file__).parents[3] / "shared" / "fixtures"
ENCODERS = REFERENCE / "encoders"
FILES = {case.family: ENCODERS / case.file for case in reversed(CASES)} | {
    "vjepa3d": REFERENCE / "vjepa3d_tiny" / "checkpoint.pt"
}
HEADS = {"vjepa21": 2, "vjepa3d": 4}


def _image(case: Case) -> Float32[Tensor, "B channels D H W"]:
    image = torch.from_numpy(np.load(ENCODERS / case.arrays)[case.image])
    return image[:, :, None] if image.ndim == 4 else image


def _load(case: Case, image: Tensor) -> Encoder:
    depth, height, width = image.shape[2:]
    return load_checkpoint(
        ENCODERS / case.file, family=case.family, heads=case.heads, image_size=(depth, height, width), which=case.which
    )


def _whole(found: dict[str, Tensor], layer: str, case: Case) -> Tensor:
    prefix = prefix_of(layer)
    if prefix not in found or case.prefix is not None:
        return found[layer]
    parts = (found[layer], found[prefix]) if case.last else (found[prefix], found[layer])
    return torch.cat(parts, dim=1)


def deviations(case: Case) -> dict[str, float]:
    """Give the largest deviation of each layer from what the official code computed."""
    image, arrays = _image(case), np.load(ENCODERS / case.arrays)
    found = _load(case, image).module(image, tuple(case.expected))
    seen = {name: _whole(found, layer, case) for layer, name in case.expected.items()}
    if case.prefix is not None:
        seen[case.prefix] = found[prefix_of("last")]
    assert all(tokens.shape == arrays[name].shape for name, tokens in seen.items())
    return {name: float((tokens - torch.from_numpy(arrays[name])).abs().max()) for name, tokens in seen.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.file}-{case.image}-{case.which}")
def test_every_layer_is_what_the_official_code_computes(case: Case) -> None:
    assert max(deviations(case).values()) <= case.tolerance, deviations(case)


pytestmark = pytest.mark.skipif(not ENCODERS.is_dir(), reason="the shared fixtures are not here")
FIRST = [next(case for case in CASES if case.family == family) for family in FAMILIES if family != "vjepa3d"]


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.family)
def test_a_row_does_not_depend_on_its_neighbours_and_bf16_points_the_same_way(case: Case) -> None:
    """Batch invariance to float32 rounding; the cosine of pooled vectors in bf16."""
    image = _image(case)
    image = torch.cat((image[:1], image.flip(-1)[:1]))
    encoder = _load(case, image)
    both, alone = encoder.module(image)["last"], encoder.module(image[1:])["last"]
    assert (both[1:] - alone).abs().max() <= 5e-6
    rounded = CpuBackend("bf16").prepare(encoder.module)(image.bfloat16())["last"].float()
    assert torch.cosine_similarity(both.mean(1), rounded.mean(1)).min() >= 0.999


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.family)
def test_an_export_is_read_back_and_a_twin_has_the_same_shapes(case: Case, tmp_path: Path) -> None:
    image = _image(case)
    encoder = _load(case, image)
    assert {
        name: tuple(one.shape) for name, one in encoder.module.state_dict().items()
    } == encoder.architecture.tensor_shapes
    assert random_twin(encoder.architecture, 0, "twin").module(image)["last"].isfinite().all()
    export_safetensors(encoder, tmp_path / "own.safetensors")
    again = load_checkpoint(tmp_path / "own.safetensors")
    assert (again.weights_sha256, again.architecture) == (encoder.weights_sha256, encoder.architecture)
    assert torch.equal(again.module(image)["last"], encoder.module(image)["last"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("other", FAMILIES)
def test_the_file_of_another_family_is_refused_by_the_right_name(family: str, other: str) -> None:
    if family == other:
        return
    with pytest.raises(CheckpointError, match=rf"\b{family}\b"):
        load_checkpoint(FILES[family], family=other, heads=HEADS.get(family, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_family_only_one_signature_may_fit(family: str) -> None:
    image = {"vjepa3d": None, "octcube": (12, 64, 64), "vjepa2": (6, 32, 32), "vjepa21": (4, 64, 64)}.get(family)
    words = {"heads": HEADS.get(family, 3), "image_size": image}
    if family in ("vjepa1", "vjepa2"):
        with pytest.raises(CheckpointError, match=r"may be vjepa1 or vjepa2: .* target_encoder \(41 tensors\)"):
            load_checkpoint(FILES[family], **words)
    else:
        assert load_checkpoint(FILES[family], **words).architecture.family == family


def test_vjepa1_is_told_from_vjepa2_by_its_fixed_table() -> None:
    with pytest.raises(CheckpointError, match=r"is no vjepa2 file: .* say --encoder vjepa1"):
        load_checkpoint(FILES["vjepa1"], family="vjepa2", heads=3, image_size=(8, 64, 64))
    with pytest.raises(CheckpointError, match=r"is no vjepa1 file: .* say --encoder vjepa2"):
        load_checkpoint(FILES["vjepa2"], family="vjepa1", heads=3, image_size=(8, 96, 64))


@pytest.mark.parametrize(("family", "rows"), [("vjepa1", 8192), ("vjepa2", 1568), ("vjepa2", 4608)])
def test_published_counts_of_positions_overrule_the_family(family: str, rows: int, tmp_path: Path) -> None:
    state = _state(family, "encoder")
    state["pos_embed"] = torch.randn(1, rows, 48)
    torch.save({"encoder": state}, tmp_path / "published.pt")
    other = {"vjepa1": "vjepa2", "vjepa2": "vjepa1"}[family]
    with pytest.raises(CheckpointError, match=f"is no {family} file: .* say --encoder {other}"):
        load_checkpoint(tmp_path / "published.pt", family=family, heads=3, image_size=(8, 64, 64))
    fitting = load_checkpoint(tmp_path / "published.pt", heads=3, image_size=(8, 64, 64)) if rows == 8192 else None
    assert fitting is None or fitting.architecture.family == "vjepa2"


def test_octcube_without_flash_attention_is_another_arithmetic(tmp_path: Path) -> None:
    whole = torch.load(FILES["octcube"], weights_only=False)["model"]
    for name in [name for name in whole if ".mixer.Wqkv." in name]:
        for part, piece in zip("qkv", whole.pop(name).chunk(3), strict=True):
            whole[name.replace("mixer.Wqkv", f"attn.{part}")] = piece.clone()
    torch.save({"model": whole}, tmp_path / "ordinary.pth")
    with pytest.raises(CheckpointError, match=r"unexpected tensor blocks\.0\.attn\.q\.weight: this is no octcube"):
        load_checkpoint(tmp_path / "ordinary.pth", family="octcube", heads=3, image_size=(12, 64, 64))


def _state(family: str, prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix of a fixture, by the file's own names, without running anything."""
    whole = torch.load(FILES[family], weights_only=False)
    return {name.removeprefix("module.backbone."): tensor.clone() for name, tensor in whole[prefix].items()}


@pytest.mark.parametrize("source", ["vjepa2", "vjepa1"])
@pytest.mark.parametrize("tubelet", [2, 4])
@pytest.mark.parametrize("family", [None, "vjepa3d"])
def test_a_video_encoder_that_was_made_grey_is_no_vjepa3d(
    source: str, tubelet: int, family: str | None, tmp_path: Path
) -> None:
    """Equal names, other arithmetic: its tubelets or its fixed table give it away."""
    if (source, tubelet) == ("vjepa2", 4):
        pytest.skip("nothing of V-JEPA is left in such a file but its arithmetic")
    state = _state(source, "encoder")
    grey = state["patch_embed.proj.weight"].sum(1, keepdim=True)
    state["patch_embed.proj.weight"] = torch.cat([grey] * (tubelet // 2), dim=2)
    torch.save({"model": state}, tmp_path / "grey.pt")
    size = (4 * tubelet, 96, 64) if source == "vjepa2" else (4 * tubelet, 64, 64)
    with pytest.raises(CheckpointError, match="made grey"):
        load_checkpoint(tmp_path / "grey.pt", family=family, heads=3, image_size=size)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["base_model.model.blocks.0.attn.qkv.lora_A.weight"], "a LoRA adapter"),
        (["base_model.model.blocks.0.attn.qkv.base_layer.weight"], "a LoRA adapter"),
        (["head.weight", "head.bias"], "a head without an encoder"),
        (["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"], "a head without an encoder"),
        (["fc_norm.weight", "fc_norm.bias"], "a head without an encoder"),
        (["mlp.0.weight", "mlp.2.weight", "last_layer.weight_g"], "a DINO head"),
        (["head.mlp.0.weight", "head.last_layer.weight", "head.last_layer2.weight"], "a DINO head"),
        (["last_layer2"], "a DINO head"),
        (["last_layer2.weight_g", "last_layer2.weight_v"], "a DINO head"),
    ],
)
@pytest.mark.parametrize("family", [None, "retfound", "dinov2"])
def test_a_file_without_an_encoder(names: list[str], message: str, family: str | None, tmp_path: Path) -> None:
    torch.save({"model": dict.fromkeys(names, torch.ones(4, 4))}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "part.pt", family=family, heads=3)


@pytest.mark.parametrize("family", [None, "retfound", "dinov2", "vjepa3d"])
@pytest.mark.parametrize("style", ["lora_A.weight", "lora_A.default.weight", "lora_b", "peft"])
def test_an_adapter_inside_a_full_file_is_refused_by_its_name(family: str | None, style: str, tmp_path: Path) -> None:
    whole = dict(torch.load(FILES["retfound"], weights_only=False)["model"])
    if style == "peft":
        for name in [name for name in whole if name.endswith("attn.qkv.weight")]:
            whole[name.replace("qkv.weight", "qkv.base_layer.weight")] = whole.pop(name)
    else:
        whole[f"blocks.0.attn.qkv.{style}"] = torch.zeros(4, 48)
    torch.save({"model": whole}, tmp_path / "adapted.pth")
    with pytest.raises(CheckpointError, match="a LoRA adapter"):
        load_checkpoint(tmp_path / "adapted.pth", family=family, heads=3)


@pytest.mark.parametrize("lost", ["weight", "bias", "both"])
def test_octcube_has_no_high_resolution_without_the_embedding_for_it(lost: str, tmp_path: Path) -> None:
    whole = dict(torch.load(FILES["octcube"], weights_only=False)["model"])
    for part in ("weight", "bias") if lost == "both" else (lost,):
        del whole[f"high_res_patch_embed.proj.{part}"]
    torch.save({"model": whole}, tmp_path / "low.pth")
    words = {"family": "octcube", "heads": 3}
    ordinary, own = (
        load_checkpoint(path, image_size=(12, 64, 64), **words) for path in (tmp_path / "low.pth", FILES["octcube"])
    )
    assert ordinary.weights_sha256 == own.weights_sha256
    with pytest.raises(CheckpointError, match=r"12x128x128 is the high resolution of octcube.* high_res_patch_embed"):
        load_checkpoint(tmp_path / "low.pth", image_size=(12, 128, 128), **words)


def test_a_vjepa2_file_of_a_target_encoder_alone_is_taken(tmp_path: Path) -> None:
    whole = torch.load(FILES["vjepa2"], weights_only=False)
    torch.save({"target_encoder": whole["target_encoder"]}, tmp_path / "target.pt")
    words = {"family": "vjepa2", "heads": 3, "image_size": (8, 96, 64)}
    both = {which: load_checkpoint(FILES["vjepa2"], which=which, **words).weights_sha256 for which in (None, "target")}
    found = load_checkpoint(tmp_path / "target.pt", **words)
    assert found.weights_sha256 == both["target"] != both[None]
    with pytest.raises(CheckpointError, match="holds no context encoder of vjepa2"):
        load_checkpoint(tmp_path / "target.pt", which="context", **words)


def test_another_number_of_heads_than_the_published_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for family, kind in FAMILIES.items():
        for (width, depth), heads in kind.heads.items():
            with pytest.raises(CheckpointError, match=f"a published {family} of width {width} and {depth} blocks has"):
                resolve_heads(None, heads * 2, kind, (width, depth), "file")
            assert resolve_heads(None, None, kind, (width, depth), "file") == heads
    monkeypatch.setitem(FAMILIES, "retfound", replace(FAMILIES["retfound"], heads={(48, 3): 3}))
    assert load_checkpoint(FILES["retfound"], family="retfound").architecture.heads == 3
    with pytest.raises(CheckpointError, match=r"has 3 heads, but 4 were asked for; leave --num-heads out"):
        load_checkpoint(FILES["retfound"], family="retfound", heads=4)


class Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("PWNED"),)  # type: ignore[return-value]


@pytest.mark.parametrize("family", [name for name, path in FILES.items() if path.is_file()])
def test_damaged_and_hostile_files(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = FILES[family].read_bytes()
    Path("cut.pt").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(CheckpointError, match=r"cut\.pt"):
        load_checkpoint(Path("cut.pt"), family=family, heads=HEADS.get(family, 3))
    with ZipFile(FILES[family]) as old, ZipFile("hostile.pt", "w") as new:
        for info in old.infolist():
            evil = info.filename.endswith("data.pkl")
            new.writestr(info, pickle.dumps({"model": Hostile()}) if evil else old.read(info))
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("hostile.pt"), family=family, heads=HEADS.get(family, 3))
    assert not Path("PWNED").exists()


def test_blocks_in_chunks_are_flattened(tmp_path: Path) -> None:
    whole = torch.load(FILES["dinov2"], weights_only=False)["teacher"]
    chunked = {re.sub(r"\.blocks\.(\d+)\.", r".blocks.0.\1.", name): tensor for name, tensor in whole.items()}
    torch.save({"teacher": chunked}, tmp_path / "chunked.pth")
    one, other = (
        load_checkpoint(path, family="dinov2", heads=3) for path in (FILES["dinov2"], tmp_path / "chunked.pth")
    )
    assert one.weights_sha256 == other.weights_sha256


class TestSizes:
    """What a family takes, and what it does not."""

    def test_a_fixed_table_takes_its_own_size_only(self) -> None:
        with pytest.raises(CheckpointError, match="expected pictures of 64 x 64, the only size that siglip takes"):
            load_checkpoint(FILES["siglip"], image_size=(4, 80, 80))

    def test_a_size_that_is_no_multiple_of_the_patch(self) -> None:
        with pytest.raises(CheckpointError, match="multiples of the patch 1x14x14"):
            load_checkpoint(FILES["dinov2"], heads=3, image_size=(4, 60, 60))

    def test_three_channels_where_the_family_has_one(self) -> None:
        encoder = load_checkpoint(FILES["mirage"], heads=3, image_size=(2, 128, 128))
        with pytest.raises(UsageError, match=r"expected 1 channel \(grey\), got 3"):
            encoder.module(torch.zeros(1, 3, 2, 128, 128))

    def test_published_heads_are_not_overruled(self, tmp_path: Path) -> None:
        first = next(case for case in CASES if case.family == "retfound")
        wide = _load(first, _image(first))
        assert FAMILIES["retfound"].heads[(1024, 24)] == 16
        with pytest.raises(CheckpointError, match="5 heads: expected a number that divides the width 48"):
            load_checkpoint(FILES["retfound"], heads=5)
        assert wide.architecture.prefix == 1

    def test_slices_are_independent(self) -> None:
        """More slices than go through at once: each is as if it were alone."""
        encoder = load_checkpoint(FILES["visionfm"], heads=3, image_size=(19, 64, 64))
        one = load_checkpoint(FILES["visionfm"], heads=3, image_size=(1, 64, 64))
        volume = torch.randn(2, 1, 19, 64, 64, generator=torch.Generator().manual_seed(3))
        found = encoder.module(volume)
        assert found["last"].shape == (2, 19 * 16, 48)
        assert found[prefix_of("last")].shape == (2, 19, 48)
        alone = one.module(volume[1:, :, 17:18])["last"]
        assert (found["last"][1, 17 * 16 : 18 * 16] - alone[0]).abs().max() <= 5e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_steps_of_a_family_follow_from_shapes_alone(family: str) -> None:
    """On the meta device there are no numbers: a step that looked at one, or came from the host, would fail here.

    So every family is one program where a device compiles (tests/extract/test_xla.py does, where torch_xla is).
    """
    module = small_encoder_of(family).module.to("meta")
    shape = module.architecture.image_size
    images = torch.empty(2, module.architecture.kind.channels, *shape, device="meta")
    tokens = module(images)["last"]
    assert (tokens.device.type, tokens.shape) == ("meta", (2, module.architecture.token_count, 48))
