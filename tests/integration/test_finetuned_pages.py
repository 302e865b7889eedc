"""Case pages of a fine-tuned model: its volumes go through its encoder again (all data: SYNTHETIC PHANTOM)."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chromium import Open
from command_line import Command
from test_case_pages import run

DEVICES = "zeiss_cirrus,heidelberg_spectralis"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a bucket, a fine-tuned run, and the case page of one validation participant with its map files."""
    folder = tmp_path_factory.mktemp("finetuned")
    bucket, runs = folder / "bucket", folder / "runs"
    run("oct-phantom", "--out", bucket, "--participants", 30, "--scale", 0.08, "--devices", DEVICES, "--effect", 20)
    run("finetune", "--bucket", bucket, "--participants", bucket / "participants.tsv", "--encoder", "random:tiny",
        "--image-size", "16,32,48", "--config", "smoke", "--stages", "head,last", "--runs", runs, "--task",
        "medicated-vs-not")  # fmt: skip
    told = run("reports", "case", "--runs", runs, "--out", folder / "report", "--bucket", bucket, "--export", "--json",
               "--participant", person(folder, "val"))  # fmt: skip
    (folder / "told.json").write_text(told)
    return folder


def person(folder: Path, split: str) -> str:
    lines = (folder / "bucket" / "participants.tsv").read_text().splitlines()
    return sorted(line.split("\t")[0] for line in lines if f"\t{split}\t" in line)[0]


def page(made: Path) -> Path:
    return next((made / "report").glob("case-*.html"))


def test_the_page_says_what_it_painted_and_how_far_to_believe_it(made: Path) -> None:
    text = page(made).read_text()
    for words in (
        "Grad-CAM", "attention rollout", "Rank agreement with occlusion over", "last blocks were shuffled",
        "of 5 random orders", "a fine-tuned run keeps no training scans", "stages head, last", "Age and site alone",
        "not where a lesion lies", "Research use only", "mm; T temporal", "OD",
    ):  # fmt: skip
        assert words in text
    assert "Shapley" not in text


def test_the_page_says_what_the_run_recorded(made: Path) -> None:
    predictions = pd.read_parquet(next(made.glob("runs/*/predictions.parquet")))
    mine = predictions[
        (predictions["model"] == "finetune")
        & (predictions["level"] == "participant")
        & (predictions["unit"] == person(made, "val"))
    ]
    shown = [int(found) for found in re.findall(r'<td class="number">(\d+)&nbsp;%</td><td>', page(made).read_text())]
    recorded = [100 * float(mine[f"probability_{number}"].iloc[0]) for number in range(2)]
    assert shown == pytest.approx(recorded, abs=2.5)


def test_every_map_is_exported_for_every_scan(made: Path) -> None:
    record = json.loads((made / "told.json").read_text())["cases"][0]
    assert record["scans"] == 4
    assert record["size_bytes"] < 15e6
    names = {Path(path).name for path in record["maps"]}
    assert len(names) == 4 * 3 * 2
    assert {"grad-cam", "rollout", "occlusion"} == {re.split(r"-[LR]-", name)[1].split(".")[0] for name in names}
    assert all(Path(path).stat().st_size > 0 for path in record["maps"])


def test_one_map_is_shown_at_a_time(made: Path, open_page: Open) -> None:
    with open_page(page(made)) as opened:
        viewer = opened.page.locator("[data-viewer]").first

        def opacity(name: str) -> float:
            heat = viewer.locator(f"[data-frame]:visible [data-heat={name}]")
            return float(heat.evaluate("e => getComputedStyle(e).opacity"))

        assert opacity("grad-cam") > 0.3
        assert opacity("rollout") == opacity("occlusion") == 0
        viewer.locator("[data-role=layer][value=grad-cam]").press("ArrowRight")  # by keyboard, as a radio group goes
        assert opacity("rollout") > 0.3
        assert opacity("grad-cam") == 0
        viewer.get_by_label("occlusion").check()
        assert opacity("occlusion") > 0.3
        viewer.locator("[data-role=shown]").uncheck()
        assert opacity("occlusion") == 0
        assert opened.said == []
        assert opened.requested == []


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1024, True), (820, False), (390, True)])
def test_it_is_no_wider_than_its_screen(made: Path, width: int, open_page: Open, *, dark: bool) -> None:
    with open_page(page(made), width=width, dark=dark) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.said == []


def test_what_cannot_be_read_is_said(command: Command, made: Path, tmp_path: Path) -> None:
    bucket, who = tmp_path / "bucket", person(made, "val")
    shutil.copytree(made / "bucket", bucket)
    (bucket / "retinal_oct" / "manifest.tsv").unlink()
    scans = sorted(bucket.rglob(f"{who}_*.dcm"))
    asked = ("reports", "case", "--runs", made / "runs", "--bucket", bucket, "--participant", who, "--out", tmp_path)
    for scan in scans[1:]:
        scan.write_bytes(b"broken")
    assert command(*asked).code == 0
    text = (tmp_path / f"case-{who}.html").read_text()
    assert text.count("not predicted: NotDicom") == 3
    assert text.count('<article class="scan">') == 1
    (tmp_path / f"case-{who}.html").unlink()
    scans[0].write_bytes(b"broken")
    refused = command(*asked)
    assert refused.code == 1
    assert "none of 4 volumes can be read" in refused.stderr.replace("\n", " ")
    for scan in scans:
        scan.unlink()
    refused = command(*asked)
    assert refused.code == 2
    assert "holds no volume" in refused.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("case-*"))


def test_without_the_bucket_a_page_shows_what_was_recorded_and_thumbnails(
    command: Command, made: Path, tmp_path: Path
) -> None:
    who, store = person(made, "val"), tmp_path / "store"
    mine = made / "bucket" / "participants.tsv"
    extracted = command("extract-embeddings", "--bucket", made / "bucket", "--store", store, "--encoder", "random:tiny",
                        "--image-size", "16,32,48", "--tokens", "none", "--participants", mine)  # fmt: skip
    assert extracted.code == 0, extracted.stderr
    asked = ("reports", "case", "--runs", made / "runs", "--store", store, "--participant", who, "--out", tmp_path)
    done = command(*asked)
    assert done.code == 0, done.stderr
    text, with_bucket = (path.read_text() for path in (tmp_path / f"case-{who}.html", page(made)))
    assert text.count("No B-scans, but the thumbnail of the store: no --bucket was given.") == 4
    assert text.count("a fine-tuned model explains the volumes that it reads") == 4
    shown = [re.findall(r'<td class="number">(\d+)&nbsp;%</td><td>', one) for one in (text, with_bucket)]
    assert np.abs(np.subtract(*(np.array(one, dtype=int) for one in shown))).max() <= 2, "the run kept 256 levels"

    assert command(*asked, "--device", "cpu").code == 2
    for scan in sorted((made / "bucket").rglob(f"{who}_*.dcm"))[:1]:
        other = tmp_path / "other" / scan.relative_to(made / "bucket")
        other.parent.mkdir(parents=True)
        shutil.copy2(scan, other)
    command("extract-embeddings", "--bucket", tmp_path / "other", "--store", tmp_path / "few", "--encoder",
            "random:tiny", "--tokens", "none")  # fmt: skip
    refused = command(*(tmp_path / "few" if word == store else word for word in asked))
    assert (refused.code, "is --store of the bucket" in " ".join(refused.stderr.split())) == (1, True), refused.stderr


def test_volumes_that_the_run_did_not_see_are_refused(command: Command, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    path = next(tmp_path.glob("runs/*/predictions.parquet"))
    recorded = pd.read_parquet(path)
    recorded[["probability_0", "probability_1"]] = [0.97, 0.03]
    recorded.to_parquet(path)
    refused = command("reports", "case", "--runs", tmp_path / "runs", "--bucket", made / "bucket", "--out", tmp_path,
                      "--participant", person(made, "val"))  # fmt: skip
    assert refused.code == 1
    assert "is this its bucket?" in refused.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("case-*"))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "--bucket is missing"),
        (("--bucket", "BUCKET", "--device", "cuda"), 1, "--device cuda"),
        (("--bucket", "BUCKET", "--device", "abacus"), 2, "is not one of"),
        (("--bucket", "BUCKET", "--participant", "TEST"), 2, "locked test split"),
        (("--bucket", "BUCKET", "--run", "other"), 2, "expected one of the runs"),
    ],
)
def test_a_wrong_question_is_answered_at_once(
    command: Command, made: Path, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    filled = {"BUCKET": str(made / "bucket"), "TEST": person(made, "test")}
    asked = [filled.get(word, word) for word in options]
    done = command("reports", "case", "--runs", made / "runs", "--out", tmp_path, *asked)
    assert done.code == code
    assert said in done.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("case-*"))
