"""--encoder onnx:FILE: a graph's outputs are layers, and what is wrong with it is one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import make_file
from small_bucket import key_of

from embeddings_store.command_line import parse_words
from embeddings_store.encoder_source import read_encoder_source
from embeddings_store.errors import UsageError
from embeddings_store.reader import open_reader
from extract.device.cpu import CpuBackend
from extract.doctor.weights import examine_preset, examine_random
from extract.encode import BatchEncoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import require_own_preset
from extract.encoder_options import Preprocessing
from extract.errors import CheckpointError
from extract.options import ExtractOptions
from extract.pipeline import extract

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
PATCH, WIDTH = 16, 8


def _graph(
    path: Path, *, sides: list[Any], tokens: bool = False, domain: str = "", batch: Any = "b", **metadata: str
) -> Path:
    """Write a patch embedding of pictures or volumes, then its double as a second layer."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    rank = len(sides)
    weight = np.random.default_rng(0).normal(size=(WIDTH, 3, *[PATCH] * rank)).astype(np.float32)
    kernel = {"kernel_shape": [PATCH] * rank, "strides": [PATCH] * rank}
    nodes = [helper.make_node("Conv", ["in", "weight"], ["map"], **kernel)]
    shape: list[Any] = [batch, WIDTH, *[None] * rank]
    if tokens:
        ends = onnx.numpy_helper.from_array(np.array([0, WIDTH, -1], np.int64), "ends")
        nodes += [
            helper.make_node("Reshape", ["map", "ends"], ["flat"]),
            helper.make_node("Transpose", ["flat"], ["first"], perm=[0, 2, 1]),
        ]
        shape = [batch, None, WIDTH]
    else:
        nodes.append(helper.make_node("Identity", ["map"], ["first"]))
    nodes.append(helper.make_node("Add", ["first", "first"], ["second"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("in", floats, [batch, 3, *sides])],
        [helper.make_tensor_value_info(name, floats, shape) for name in ("first", "second")],
        [onnx.numpy_helper.from_array(weight, "weight")] + ([ends] if tokens else []),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    model.ir_version = 9
    helper.set_model_props(model, metadata)
    onnx.save_model(model, str(path))
    return path


@pytest.mark.parametrize("tokens", [False, True])
def test_outputs_are_layers_slice_by_slice(tokens: bool, tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=["h", "w"], tokens=tokens)
    encoder = open_encoder(encoder=f"onnx:{path}", image_size=(3, 32, 48))
    assert (encoder.architecture.grid, encoder.architecture.width, encoder.architecture.depth) == ((3, 2, 3), WIDTH, 2)
    volume = torch.randn(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    found = encoder.module(volume, ("1", "last"))
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32))
    wanted = torch.nn.functional.conv2d(volume[1, :, 2:3].expand(-1, 3, -1, -1), weight, stride=PATCH)
    assert (found["1"][1, 12:] - wanted[0].flatten(1).T).abs().max() <= 1e-3
    assert torch.equal(found["last"], 2 * found["1"])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_graph_of_a_fixed_batch_gets_as_many_at_a_time(batch: int, tmp_path: Path) -> None:
    volumes = torch.randn(3, 3, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    paths = [_graph(tmp_path / f"{one}.onnx", sides=[32, 48], batch=one) for one in ("b", batch)]
    free, fixed = (open_encoder(encoder=f"onnx:{path}", image_size=(3, 32, 48)) for path in paths)
    for name in ("1", "last"):
        assert torch.equal(free.module(volumes, (name,))[name], fixed.module(volumes, (name,))[name])
    whole = open_encoder(encoder=f"onnx:{_graph(tmp_path / 'v.onnx', sides=[16, 32, 48], batch=1)}")
    images = torch.randn(2, 3, 16, 32, 48, generator=torch.Generator().manual_seed(2))
    assert torch.equal(whole.module(images)["last"][1:], whole.module(images[1:])["last"])


def test_a_graph_that_leaves_its_batch_open_but_takes_one_alone(tmp_path: Path) -> None:
    """The export kept the batch of its example in a reshape: two become one row, or an error."""
    for name, ends in (("joined", [1, -1, WIDTH]), ("failing", [1, 6, WIDTH])):
        model = onnx.load(str(_graph(tmp_path / "e.onnx", sides=[32, 48], tokens=True)))
        node = onnx.helper.make_node("Reshape", ["first", "example"], ["kept"])
        model.graph.node.insert(3, node)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(ends, np.int64), "example"))
        del model.graph.output[1:]
        model.graph.output[0].name = "kept"
        onnx.save_model(model, str(tmp_path / f"{name}.onnx"))
        encoder = open_encoder(encoder=f"onnx:{tmp_path / name}.onnx", image_size=(3, 32, 48))
        images = torch.randn(2, 3, 3, 32, 48, generator=torch.Generator().manual_seed(2))
        assert torch.equal(encoder.module(images)["last"][1:], encoder.module(images[1:])["last"])


def test_slices_are_as_many_as_were_asked_for(tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=[32, 48])
    assert open_encoder(encoder=f"onnx:{path}", slices=5).architecture.grid == (5, 2, 3)
    assert open_encoder(encoder=f"onnx:{path}").architecture.grid == (16, 2, 3)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"grid": "1,2"}, "metadata grid: expected gd,gh,gw, got '1,2'"),
        ({"grid": "a,b,c"}, "metadata grid: expected gd,gh,gw"),
        ({"grid": "1,-2,-3"}, "metadata grid: expected gd,gh,gw"),
        ({"grid": "0,2,3"}, "do not tell their grid"),
        ({"prefix_tokens": "one"}, "metadata prefix_tokens: expected a whole number from 0, got 'one'"),
        ({"prefix_tokens": "-1"}, "metadata prefix_tokens: expected a whole number from 0"),
        ({"prefix_tokens": "9" * 5000}, "metadata prefix_tokens: expected a whole number from 0"),
        ({"prefix_tokens": "7"}, "do not tell their grid"),
    ],
)
def test_metadata_that_is_none(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=[32, 48], tokens=True, **metadata)
    with pytest.raises(CheckpointError, match=message):
        open_encoder(encoder=f"onnx:{path}")


def test_a_volume_with_its_grid_in_the_metadata(tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=[16, 32, 48], tokens=True, grid="1,2,3")
    assert open_encoder(encoder=f"onnx:{path}").architecture.grid == (1, 2, 3)
    silent = _graph(tmp_path / "s.onnx", sides=[16, 32, 48], tokens=True)
    with pytest.raises(CheckpointError, match=r"6 tokens of \[16, 32, 48\] voxels do not tell their grid"):
        open_encoder(encoder=f"onnx:{silent}")


def test_fine_tuning_refuses_it_and_the_doctor_knows_no_preset_of_its_own(tmp_path: Path) -> None:
    encoder = open_encoder(encoder=f"onnx:{_graph(tmp_path / 'e.onnx', sides=[32, 32])}", image_size=(3, 32, 32))
    with pytest.raises(UsageError, match="and its weights cannot learn; probe instead"):
        require_own_preset(encoder, "pretrain", "probe instead")
    report, _ = examine_preset(encoder, Preprocessing(preset="imagenet"))
    assert report.checks[0].message == "preset imagenet, as typed: nobody says whether it is the encoder's own"


def _damaged(path: Path) -> Path:
    path.write_bytes(b"\x08\x09garbage")
    return path


def _without_its_data(path: Path) -> Path:
    _graph(path, sides=[32, 32])
    onnx.save_model(
        onnx.load(str(path)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (path.parent / "weights.bin").unlink()
    return path


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (_damaged, None, "is no ONNX file, or is cut off|expected one float32 input|cannot open it"),
        (lambda path: path, None, "cannot be read"),
        (_without_its_data, None, r"its external data weights\.bin are not next to it"),
        (lambda path: _graph(path, sides=[32, 32], domain="mine"), None, "operators of ONNX alone, got mine:Add"),
        (lambda path: _graph(path, sides=[32, 32]), (4, 48, 48), r"the graph takes \[32, 32\], but --image-size asks"),
        (lambda path: _graph(path, sides=["h", "w"]), (4, 8, 8), r"the graph does not take \[1, 3, 8, 8\]"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(make: Any, size: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        open_encoder(encoder=f"onnx:{make(tmp_path / 'e.onnx')}", image_size=size)
    assert "\n" not in str(caught.value)


def test_what_it_leaves_open_has_to_be_said(tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=["h", "w"])
    with pytest.raises(UsageError, match="say --image-size"):
        open_encoder(encoder=f"onnx:{path}")
    with pytest.raises(UsageError, match="runs on the CPU as it is"):
        BatchEncoder(open_encoder(encoder=f"onnx:{path}", image_size=(2, 32, 32)), CpuBackend("bf16"))
    with pytest.raises(UsageError, match="other encoders need none"):
        open_encoder(encoder=f"onnx:{path}", heads=3)


def test_a_whole_pass_needs_a_preset(tmp_path: Path) -> None:
    path = _graph(tmp_path / "e.onnx", sides=[64, 64])
    scan = tmp_path / "bucket" / key_of(0)
    scan.parent.mkdir(parents=True)
    scan.write_bytes(make_file(np.random.default_rng(0).integers(0, 200, (17, 40, 48), dtype=np.uint8)))
    words = {"bucket": str(tmp_path / "bucket"), "store": [str(tmp_path / "store")], "encoder": [f"onnx:{path}"]}
    with pytest.raises(UsageError, match="--preset: expected how its input is prepared"):
        extract(parse_words(ExtractOptions, **words, device="cpu"))
    summary = extract(parse_words(ExtractOptions, **words, device="cpu", preset="retfound"))
    assert summary["committed"] == 1
    reader = open_reader(str(tmp_path / "store"))
    assert reader.space.family.startswith("onnx@")
    source = read_encoder_source(reader.storage, reader.space)
    assert source is not None
    assert source.training == "unclear"
    report, _ = examine_random(f"onnx:{path}", None)
    assert [check.name for check in report.checks] == ["encoder", "training"]
