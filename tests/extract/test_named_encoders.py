"""Encoders by name through the whole house: options, one pass with several, identities, a family of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command
from dicom_files import make_file
from small_bucket import errors, key_of

from embeddings_store.command_line import parse_words
from embeddings_store.encoder_source import read_encoder_source, source_of_record
from embeddings_store.errors import UsageError
from embeddings_store.reader import open_reader
from extract.dicom.reader import read_dicom
from extract.encode import build_space
from extract.encoder.cards import cards
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.families import FAMILIES
from extract.encoder.open import open_encoder
from extract.encoder.random_init import random_encoder
from extract.errors import CheckpointError
from extract.options import ExtractOptions
from extract.pipeline import extract
from extract.preprocess import preprocess
from extract.preset import load_preset

SHARED = Path(__file__).parents[3] / "shared" / "fixtures"
ENCODERS = SHARED / "encoders"
pytestmark = pytest.mark.skipif(not ENCODERS.is_dir(), reason="the shared fixtures are not here")

FILES = {
    "vjepa1": ENCODERS / "vjepa1_pt" / "checkpoint.pth.tar",
    "retfound": ENCODERS / "retfound_mae" / "checkpoint.pth",
    "visionfm": ENCODERS / "visionfm" / "checkpoint.pth",
    "mirage": ENCODERS / "mirage" / "checkpoint.pth",
    "siglip": ENCODERS / "hf_slices" / "siglip_vision_model",
}
TINY = SHARED / "vjepa3d_tiny" / "checkpoint.pt"
NESTED = SHARED / "vjepa3d_nested" / "trainer_full.pt"
BEFORE = {
    "vjepa3d": (lambda: load_checkpoint(TINY), "170adcc3a244b096", "90d32d8d6a8a975f"),
    "nested": (lambda: load_checkpoint(NESTED), "0c3297caefdafb4b", "70df255a0abadad9"),
    "resized": (
        lambda: load_checkpoint(NESTED, image_size=(16, 96, 96), interpolate=True),
        "dac50c7c399aa57d",
        "6e3a3f38e0dcdbc6",
    ),
    "vjepa2": (lambda: load_checkpoint(SHARED / "vjepa2_hf"), "d9f876f6870177ca", "9042445029578771"),
    "random": (lambda: random_encoder("random:tiny"), "46daa4c368fee6b1", "39d226f0442a45c1"),
}  # fmt: skip
"""Encoders of before the table of families: the start of the weights' digest, and the id of a space."""


@pytest.mark.parametrize("name", BEFORE)
def test_weights_and_spaces_keep_their_names(name: str) -> None:
    made, digest, space_id = BEFORE[name]
    encoder: Encoder = made()
    preset = load_preset("pretrain").to_dict()
    pools = ("mean", "max", "std")
    space = build_space(encoder, preset, layers=("last",), pools=pools, token_grid=None, precision="fp32")
    assert (encoder.weights_sha256[:16], space.id) == (digest, space_id)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for number in range(2):
        voxels = np.random.default_rng(number).integers(0, 200, (17, 40, 48), dtype=np.uint8)
        path = tmp_path / "bucket" / key_of(number)
        path.parent.mkdir(parents=True)
        path.write_bytes(make_file(voxels))
    return tmp_path / "bucket"


def _options(bucket: Path, families: dict[str, Path], tmp_path: Path, **more: Any) -> ExtractOptions:
    stores = [str(tmp_path / family) for family in families]
    usual = {"tokens": "none", "device": "cpu", "heads": 3} | more
    files = list(families.values())
    return parse_words(
        ExtractOptions, bucket=str(bucket), store=stores, checkpoint=files, encoder=list(families), **usual
    )


def test_five_families_in_one_pass_each_with_its_own_preset(bucket: Path, tmp_path: Path) -> None:
    summary = extract(_options(bucket, FILES, tmp_path))
    assert summary["get_requests"] == 2, "each volume is fetched once"
    for store, (family, file) in zip(summary["stores"], FILES.items(), strict=True):
        assert (store["committed"], store["notes"]) == (2, []), errors(tmp_path / family)
        reader = open_reader(str(tmp_path / family))
        kind = FAMILIES[family]
        assert (reader.space.family, reader.space.preset["name"]) == (family, kind.preset)
        source = read_encoder_source(reader.storage, reader.space)
        assert source is not None
        assert (source.licence, source.citation) == (kind.card.licence, kind.card.citation)
        encoder = load_checkpoint(file, family=family, heads=3)
        preset = load_preset(kind.preset)
        image = preprocess(read_dicom((bucket / key_of(1)).read_bytes()), preset, encoder.architecture.image_size)
        wanted = encoder.module(torch.from_numpy(image)[None])["last"].mean(1).numpy()
        index = reader.index()
        row = int(index["row"][index["key"] == key_of(1)].iloc[0])
        assert np.abs(reader.pooled([row])[0, 0, 0] - wanted[0]).max() <= 1e-5


def test_the_class_token_is_a_pool_of_its_own(bucket: Path, tmp_path: Path) -> None:
    only = {"retfound": FILES["retfound"]}
    summary = extract(_options(bucket, only, tmp_path, pools="mean,cls", slices="4"))
    assert summary["committed"] == 2
    reader = open_reader(str(tmp_path / "retfound"))
    assert reader.space.image_size == (4, 64, 64)
    vectors = reader.pooled([0])[0, 0]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    with pytest.raises(UsageError, match=r"--pool cls: .* \(siglip\) has no class token"):
        extract(_options(bucket, {"siglip": FILES["siglip"]}, tmp_path, pools="cls"))


def test_a_family_for_every_checkpoint_or_for_none(bucket: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a family for each of the 2 --checkpoint"):
        ExtractOptions(
            bucket=str(bucket), store=("a", "b"), checkpoint=(FILES["mirage"], FILES["siglip"]), encoder="mirage"
        )
    mixed = ExtractOptions(
        bucket=str(bucket), store=("a", "b"), checkpoint=FILES["mirage"], encoder=("random:tiny", "mirage")
    )
    assert [(one.choice.encoder, one.store) for one in mixed.outputs] == [("mirage", "a"), ("random:tiny", "b")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"encoder": "nix", "checkpoint": FILES["mirage"]}, "--encoder nix: expected one of vjepa3d, vjepa1"),
        ({"encoder": "mirage"}, r"--encoder mirage: expected its file too, --checkpoint FILE; it comes from github"),
        ({}, "expected --checkpoint FILE"),
        ({"encoder": "random:tiny", "which": "target"}, "--checkpoint-key belong to --checkpoint"),
    ],
)
def test_a_wrong_choice_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_encoder(**words)


OWN = """
from extract.encoder.family import Card, Family

MINE = Family(
    name="{name}",
    card=Card(title="Mine", licence="MIT", commercial=True, gated=False, citation="Me", weights="here"),
    preset="retfound",
    positions="{positions}",
    frames=4,
    slices=True,
    ignored=("mask_token", r"decoder_.*"),
    extra={{"cls_token": "1 1 C", "pos_embed": "1 * C"}},
)
"""


TWO = OWN.format(name="a", positions="bicubic") + "from dataclasses import replace\nOTHER = replace(MINE, name='b')\n"

TYPED = "|raised TypeCheckError"
"""What tests, which check types as they run, say of a value of another type before the family itself does."""

SLIPS = [
    ('("mask_token", r"decoder_.*")', '("(",)', r"ignored: expected a regular expression, got '\('"),
    ("slices=True", 'slices=True, has=("a[",)', r"has: expected a regular expression, got 'a\['"),
    (
        "slices=True",
        'slices=True, renames=(("x", r"\\2"),)',
        r"renames: expected a regular expression, got 'x'",
    ),
    ("slices=True", 'slices=True, renames=("x", "y")', "renames: expected a tuple of pairs" + TYPED),
    ("slices=True", 'slices=True, has=("x")', "has: expected a tuple of texts" + TYPED),
    ('"1 * C"', '"1 many C"', "extra: expected tensors and their shapes"),
    ('"1 * C"', '"1 0 C"', "extra: expected tensors and their shapes"),
    ("frames=4", "frames=0", "frames: expected a whole number from 1, or None, got 0"),
    ("frames=4", "frames=4, eps=0.0", "eps: expected a number above 0, got 0.0"),
    ("frames=4", "frames=4, channels=2", "channels: expected 1 or 3, got 2"),
    ("frames=4", "frames=4, heads={(48, 3): 5}", r"heads: expected by \(width, depth\) a number of heads"),
    ("frames=4", "frames=4, keys=()", "keys: expected a tuple of at least one text"),
    ('"pos_embed": "1 * C"', "", "extra: positions bicubic need pos_embed"),
    ('"pos_embed": "1 * C"', '"pos_embed": "1 * C", "cls": "1 C"', "extra: expected tensors of pos_embed, .* got cls"),
    ("slices=True", "slices=False", "positions bicubic with slices=False: expected table_3d"),
]
"""Of the text of a family: what to replace, by what, and what is said of it."""


class TestOwnFamily:
    """--encoder ./mine.py."""

    def test_computes_as_the_family_does_and_its_digest_names_it(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.py"
        mine.write_text(OWN.format(name="mine", positions="bicubic"))
        words = {"checkpoint": FILES["retfound"], "heads": 3}
        own, theirs = (open_encoder(encoder=encoder, **words) for encoder in (str(mine), "retfound"))
        assert own.weights_sha256 == theirs.weights_sha256
        assert own.architecture.family.startswith("mine@")
        assert own.architecture.image_size == (4, 64, 64)
        mine.write_text(mine.read_text() + "# changed\n")
        assert open_encoder(encoder=str(mine), **words).architecture.family != own.architecture.family

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("raise KeyError('x')", "the file raised KeyError: 'x'"),
            ("import nothing_of_the_kind", "the file raised ModuleNotFoundError"),
            ("x = (", "the file raised SyntaxError"),
            ("", "expected one Family, got 0"),
            ("from extract.encoder.families import FAMILIES", "expected one Family, got 0"),
            (TWO, "expected one Family, got 2"),
            (OWN.format(name="retfound", positions="bicubic"), "the name retfound belongs to a family"),
            (OWN.format(name="mine", positions="wavy"), "positions: expected table_3d|raised TypeCheckError"),
            ("import sys; sys.exit(3)", "the file raised SystemExit: 3"),
            ("raise Exception('x\\ny')", "the file raised Exception: x; correct it"),
            ("raise StopIteration", "the file raised StopIteration; correct it"),
            ("import re; re.compile('(')", r"the file raised (error|PatternError): missing \)"),
            ("class Mine(BaseException):\n def __str__(self): 1 / 0\nraise Mine", "the file raised Mine: <exception"),
            *[
                (OWN.format(name="mine", positions="bicubic").replace(old, new), f"family mine: {message}")
                for old, new, message in SLIPS
            ],
        ],
    )  # fmt: skip
    def test_what_is_wrong_with_it_is_one_line(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "mine.py").write_text(text)
        with pytest.raises(UsageError, match=message) as caught:
            open_encoder(encoder=str(tmp_path / "mine.py"), checkpoint=FILES["retfound"])
        assert "\n" not in str(caught.value)

    def test_what_does_not_fit_the_checkpoint_is_one_line(self, tmp_path: Path) -> None:
        """A function of the file that raises, and two tensors that become one."""
        mine, text = tmp_path / "mine.py", OWN.format(name="mine", positions="bicubic")
        for old, new, kind, message in (
            (
                "slices=True",
                "slices=True, file_form=lambda _: {}[5]",
                UsageError,
                "raised KeyError: 5; what",
            ),
            ("slices=True", "slices=True, renames=((r'norm1', 'norm2'),)", CheckpointError, "are both the tensor"),
        ):
            mine.write_text(text.replace(old, new))
            with pytest.raises(kind, match=message):
                open_encoder(encoder=str(mine), checkpoint=FILES["retfound"], heads=3)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            open_encoder(encoder=str(tmp_path / "none.py"), checkpoint=FILES["retfound"])


def test_the_cards_name_every_family() -> None:
    found = {card["family"]: card for card in cards()}
    assert list(found) == list(FAMILIES)
    assert all(name == kind.name for name, kind in FAMILIES.items())
    assert found["mirage"]["licence"] == "CC BY-NC-ND 4.0"
    assert found["mirage"]["commercial_use"] is False
    assert all(len((Path("extract/encoder/families") / f"{name}.py").read_text().splitlines()) < 60 for name in found)
    assert all(load_preset(kind.preset).channels in (1, kind.channels) for kind in FAMILIES.values())


def test_records_of_before_are_read() -> None:
    old = {
        "name": "a.pt",
        "family": "vjepa3d",
        "weights_sha256": "0",
        "epoch": 3,
        "training": "trained",
        "reason": "so",
    }
    source = source_of_record(old)
    assert source is not None
    assert source.to_record() == old
    assert source.describe() == "a.pt (vjepa3d, epoch 3): so"


class TestCommands:
    """What is typed."""

    def test_encode_gives_patch_and_prefix_tokens_and_knows_former_names(
        self, tmp_path: Path, command: Command
    ) -> None:
        arrays = np.load(ENCODERS / "visionfm" / "arrays.npz")
        np.save(tmp_path / "in.npy", arrays["slices_input"])
        line = ("encode", tmp_path / "in.npy", "--encoder", "visionfm", "--checkpoint", FILES["visionfm"])
        outs = ("--out", tmp_path / "t.npy", "--prefix-out", tmp_path / "p.npy")
        done = command("extract-embeddings", *line, "--heads", 3, "--which", "target", *outs)
        assert done.code == 0, done.stderr
        assert np.abs(np.load(tmp_path / "t.npy") - arrays["slices_last"]).max() <= 2e-5
        assert np.abs(np.load(tmp_path / "p.npy") - arrays["slices_cls"]).max() <= 2e-5
        done = command("extract-embeddings", *line[:-1], FILES["retfound"], "--num-heads", 3, *outs)
        assert done.code == 1
        assert "say --encoder retfound" in done.stderr
        done = command("extract-embeddings", "encode", "--help")
        assert "--num-heads" in done.stdout
        assert "--heads " not in done.stdout
        assert "--which" not in done.stdout

    def test_no_prefix_tokens(self, tmp_path: Path, command: Command) -> None:
        np.save(tmp_path / "in.npy", np.zeros((1, 3, 1, 64, 64), np.float32))
        line = ("encode", tmp_path / "in.npy", "--encoder", "siglip", "--checkpoint", FILES["siglip"])
        done = command("extract-embeddings", *line, "--out", tmp_path / "t.npy", "--prefix-out", tmp_path / "p.npy")
        assert done.code == 2
        assert "(siglip) has no prefix tokens" in done.stderr
        assert not (tmp_path / "t.npy").exists()
