"""Real scanner files, real B-scans and the trainer's own checkpoint through the commands that a user types."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from PIL import Image
from rclone_server import rclone_s3
from scanner_bucket import EMRI_ENCODINGS, UNREADABLE, place, scanner_bucket, wrap_as_dicom

from embeddings_store.reader import open_reader

UseKeys = Callable[[str, str], None]


@pytest.fixture
def served(tmp_path: Path, s3_credentials: UseKeys) -> Iterator[Callable[[], str]]:
    """Serve tmp_path/buckets once it is filled: call it for the endpoint URL."""
    with_server = []

    def serve() -> str:
        server = rclone_s3(tmp_path / "buckets")
        endpoint, access_key, secret_key = server.__enter__()
        with_server.append(server)
        s3_credentials(access_key, secret_key)
        return endpoint

    yield serve
    for server in with_server:
        server.__exit__(None, None, None)


def pooled_by_participant(store: Path) -> dict[str, np.ndarray]:
    reader = open_reader(str(store))
    index = reader.index()[reader.committed()]
    vectors = reader.pooled(index["row"].tolist())
    return dict(zip(index["participant"], vectors, strict=True))


@pytest.mark.s3
def test_one_scan_in_five_encodings_gives_one_embedding(
    tmp_path: Path, served: Callable[[], str], command: Command
) -> None:
    scanner_bucket(tmp_path / "buckets" / "scanners")
    store = tmp_path / "store"
    endpoint = served()

    done = command(
        *("extract-embeddings", "--bucket", "scanners", "--endpoint-url", endpoint),
        *("--store", store, "--encoder", "random:tiny", "--json"),
        *("--allow-sop-class", "EnhancedMRImageStorage", "--allow-sop-class", "Enhanced CT Image Storage"),
    )

    assert done.code == 3
    assert done.json["committed"] == 6
    assert done.json["errors"] == {"NotAVolume": 1}  # it declares one frame; its pixels are never tried
    (error,) = open_reader(str(store)).errors()
    assert open_reader(str(store)).index()["participant"][error.row] == next(iter(UNREADABLE))
    vectors = pooled_by_participant(store)
    first, *others = (vectors[participant] for participant in EMRI_ENCODINGS)
    assert np.ptp(first) > 0.1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-6)
    assert np.abs(vectors["4001"] - first).max() > 1e-3


@pytest.mark.s3
def test_real_b_scans_embed_alike_in_both_encodings(
    tmp_path: Path, real_oct: Path, served: Callable[[], str], command: Command
) -> None:
    stacks = [folder for folder in sorted(real_oct.iterdir()) if folder.is_dir()]
    for number, folder in enumerate(stacks):
        frames = np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted(folder.glob("*.png"))])
        for lossless, site in ((False, 1), (True, 4)):
            data = wrap_as_dicom(frames, lossless_jpeg2000=lossless)
            place(tmp_path / "buckets" / "real", f"{site}{number:03d}", data, 10 * number + site)
    endpoint = served()

    done = command(
        *("extract-embeddings", "--bucket", "real", "--endpoint-url", endpoint),
        *("--store", tmp_path / "store", "--encoder", "random:tiny", "--tokens", "none", "--json"),
    )

    assert (done.code, done.json["committed"], done.json["errors"]) == (0, 2 * len(stacks), {})
    vectors = pooled_by_participant(tmp_path / "store")
    for number in range(len(stacks)):
        np.testing.assert_array_equal(vectors[f"1{number:03d}"], vectors[f"4{number:03d}"])
    spread = np.ptp(np.stack([vectors[f"1{number:03d}"] for number in range(len(stacks))]), axis=0)
    assert spread.max() > 1e-3, "ten different eyes must not give one embedding"


def test_encode_gives_the_tokens_of_the_reference(tmp_path: Path, reference: Path, command: Command) -> None:
    tiny = reference / "vjepa3d_tiny"

    done = command(
        *("extract-embeddings", "encode", tiny / "input.npy"),
        *("--checkpoint", tiny / "checkpoint.pt", "--out", tmp_path / "tokens.npy"),
    )

    assert done.code == 0, done.stderr
    tokens = np.load(tmp_path / "tokens.npy")
    np.testing.assert_allclose(tokens, np.load(tiny / "expected_tokens.npy"), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["shared_groups", "int16_signed", "rescale_negative", "rle", "deep", "extra_frames"])
def test_preprocess_gives_the_array_of_the_reference(
    name: str, tmp_path: Path, reference: Path, command: Command
) -> None:
    folder = reference / "preprocess" / "dicom"
    expected = json.loads((folder / "expected.json").read_text())["cases"][name]["expected_pretrain_array"]

    done = command(
        *("extract-embeddings", "preprocess", folder / f"{name}.dcm"),
        *("--out", tmp_path / "x.npy", "--image-size", "4,20,20"),
    )

    assert done.code == 0, done.stderr
    array = np.load(tmp_path / "x.npy")
    np.testing.assert_allclose(array, np.load(folder / "expected_pretrain.npz")[expected], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["single_frame", "rgb", "no_pixeldata", "short_pixeldata", "not_dicom"])
def test_preprocess_refuses_what_is_no_volume(name: str, tmp_path: Path, reference: Path, command: Command) -> None:
    file = reference / "preprocess" / "dicom" / f"{name}.dcm"

    done = command("extract-embeddings", "preprocess", file, "--out", tmp_path / "x.npy")

    assert done.code == 1
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.glob("*x.npy*")) == []


def test_the_target_encoder_is_encoded_on_request(tmp_path: Path, reference: Path, command: Command) -> None:
    nested = reference / "vjepa3d_nested"
    line = ("extract-embeddings", "encode", nested / "input.npy", "--heads", 3, "--out", tmp_path / "tokens.npy")

    refused = command(*line, "--checkpoint", nested / "target_only.pt")
    done = command(*line, "--checkpoint", nested / "target_only.pt", "--which", "target")

    assert (refused.code, done.code) == (1, 0)
    assert "no context encoder" in refused.stderr
    expected = np.load(nested / "expected_target_tokens.npy")
    np.testing.assert_allclose(np.load(tmp_path / "tokens.npy"), expected, rtol=0, atol=2e-5)
