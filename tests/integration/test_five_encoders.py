"""A phantom bucket through five encoders in one pass: five stores, one leaderboard, a page (SYNTHETIC PHANTOM)."""

import re
from pathlib import Path

import pytest
from command_line import Command

from embeddings_store.encoding_cost import read_encoding_cost
from embeddings_store.reader import open_reader

FILES = {
    "vjepa1": "vjepa1_pt/checkpoint.pth.tar",
    "retfound": "retfound_mae/checkpoint.pth",
    "visionfm": "visionfm/checkpoint.pth",
    "mirage": "mirage/checkpoint.pth",
    "siglip": "hf_slices/siglip_vision_model",
}
SLICES = 4


@pytest.fixture
def stores(tmp_path: Path, reference: Path, command: Command) -> dict[str, Path]:
    """Make the bucket and all stores."""
    made = command("oct-phantom", "--out", tmp_path / "bucket", "--participants", 16, "--scale", 0.12, "--devices",
                   "zeiss_cirrus", "--effect", 20, "--workers", 1)  # fmt: skip
    assert made.code == 0, made.stderr
    stores = {name: tmp_path / name for name in FILES}
    words = [word for name, file in FILES.items() for word in
             ("--encoder", name, "--checkpoint", reference / "encoders" / file, "--store", stores[name])]  # fmt: skip
    done = command("extract-embeddings", "--bucket", tmp_path / "bucket", *words, "--num-heads", 3, "--slices", SLICES,
                   "--tokens", "full", "--device", "cpu", "--usd-per-hour", 2, "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    scans = len(list((tmp_path / "bucket").rglob("*.dcm")))
    assert [one["committed"] for one in done.json["stores"]] == [scans] * len(FILES)
    assert done.json["get_requests"] <= scans + 2, "each volume is fetched once for all of them"
    return stores


def case_page(store: Path, run: str, tmp_path: Path, command: Command) -> None:
    """Encoders of slices: the page shows those that were encoded, and says what was not seen."""
    people = tmp_path / "bucket" / "participants.tsv"
    val = next(line.split("\t")[0] for line in people.read_text().splitlines() if "\tval\t" in line)
    done = command("reports", "case", "--store", store, "--runs", tmp_path / "runs", "--bucket", tmp_path / "bucket",
                   "--run", run, "--out", tmp_path / "out",
                   "--participant", val, "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    text = Path(done.json["cases"][0]["page"]).read_text()
    assert f"The encoder saw {SLICES} of " in text
    assert "Between them nothing is claimed" in text
    assert "of the columns of each B-scan; outside of them nothing is painted" in text
    assert 0 < len(set(re.findall(r'alt="B-scan (\d+) of', text))) <= 2 * SLICES
    assert "No map" not in text


def test_one_pass_one_leaderboard_one_page(stores: dict[str, Path], tmp_path: Path, command: Command) -> None:
    people = ("--participants", tmp_path / "bucket" / "participants.tsv")
    words = [word for name, store in stores.items() for word in ("--store", f"{name}={store}")]
    done = command("classify", "compare", *words, "--models", "linear", "--tasks", "healthy-vs-rest", *people,
                   "--replicates", 50, "--runs", tmp_path / "runs", "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    board = done.json["tasks"]["healthy-vs-rest"]
    models = {line["name"]: line for line in board["lines"] if line["kind"] == "model"}
    assert set(models) == {f"{name}/linear" for name in FILES}
    paired = [line["difference_to_best"] for name, line in models.items() if name != board["best"]]
    assert all("low" in one["balanced_accuracy"] or "too_few" in one["balanced_accuracy"] for one in paired)
    said = " ".join(done.stderr.split())
    for name, store in stores.items():
        reader = open_reader(str(store))
        cost = read_encoding_cost(reader.storage)
        assert cost is not None
        assert (cost.volumes, cost.encoders, cost.usd_per_hour) == (len(reader.index()), len(FILES), 2.0)
        assert done.json["encoding_costs"][name] == cost.to_record()
        assert f"cost of {name}: {cost.seconds_a_volume:.3g} s a volume on cpu; 1,000 volumes:" in said
    page = command("reports", "study", "--store", stores["retfound"], "--runs", tmp_path / "runs", "--out",
                   tmp_path / "out")  # fmt: skip
    assert page.code == 0, page.stderr
    text = (tmp_path / "out" / "study.html").read_text()
    section = text[text.index('id="which-encoder"') :]
    for words_of in ("CC BY-NC 4.0", "Apache-2.0", "1,000 volumes", "5 encoders together", "Zhou et al."):
        assert words_of in section
    assert len(re.findall(r"[\d.e-]+ h, \$\d", section)) == len(FILES)
    runs = {one["name"]: one["run"] for one in done.json["runs"]}
    case_page(stores["retfound"], runs["retfound/linear"], tmp_path, command)
