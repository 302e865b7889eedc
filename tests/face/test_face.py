"""The public module: small, lazy, silent, and every name of it has an example that runs."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_pages import read_page

import octprobe
from embeddings_store.errors import UsageError
from embeddings_store.frame import make_frame
from embeddings_store.snapshot import Snapshot

ROOT = Path(__file__).parent.parent.parent
ORDER = ("extract", "open_store", "read_snapshot", "probe", "load_run", "compare")
"""Examples stand on what those before them made; the others follow."""


@pytest.fixture(scope="module")
def typed(clinic: Path) -> dict[str, doctest.TestResults]:
    """Run the example of every public name, in one folder."""
    results, finder, runner = {}, doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    before = Path.cwd()
    os.chdir(clinic)
    try:
        for name in sorted(octprobe.__all__, key=lambda one: (ORDER.index(one) if one in ORDER else 99, one)):
            (example,) = finder.find(getattr(octprobe, name), name, module=False, globs={}) or [None]
            assert example is not None, name
            results[name] = runner.run(example)
    finally:
        os.chdir(before)
    return results


@pytest.mark.parametrize("name", octprobe.__all__)
def test_the_example_of_each_name_runs(typed: dict[str, doctest.TestResults], name: str) -> None:
    assert typed[name].attempted > 1
    assert typed[name].failed == 0


def test_the_walk_runs_as_it_stands_and_fits_a_screen(
    typed: dict[str, doctest.TestResults], clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [block for block in read_page(ROOT / "docs" / "python.md").blocks if block.language == "python"]
    assert len(block.text.splitlines()) <= 25
    monkeypatch.chdir(clinic)
    exec(compile(block.text, "python.md", "exec"), {})
    assert (clinic / "pca.png").stat().st_size > 1000


def test_a_run_says_the_same_in_memory_and_by_the_command(
    typed: dict[str, doctest.TestResults], clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clinic)
    (folder,) = Path("runs").glob("*-linear-*")
    found = octprobe.load_run(folder).predict(octprobe.read_snapshot("store"))
    written = pd.read_csv(clinic / "lines.csv", dtype={"unit": str, "participant": str})
    columns = [name for name in found.columns if name.startswith("probability_")]
    np.testing.assert_allclose(found[columns], written[columns], rtol=0, atol=1e-12)
    assert repr(octprobe.load_run(folder)).startswith(f"Run {folder.name}: linear, healthy-vs-rest, ")


HEAVY = ("torch", "sklearn", "pandas", "boto3", "pydicom", "zarr", "rich", "typer")
QUIET = f"""
import sys
import octprobe
assert sorted(octprobe.__all__) == octprobe.__all__ and set(octprobe.__all__) <= set(dir(octprobe))
assert [name for name in {HEAVY!r} if name in sys.modules] == []
try:
    octprobe.nothing
except AttributeError as error:
    assert "read_snapshot" in str(error)
octprobe.__version__.split(".")
from embeddings_store.terminal.console import is_watched, say
say("nobody asked")
sys.stderr.isatty = lambda: True
assert not is_watched()
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", stream=sys.stdout)
say("asked for")
assert is_watched()
"""


def test_it_is_light_and_says_nothing_unless_asked() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "octprobe asked for\n", "")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: octprobe.probe("s", "p.tsv", trails=3),
            "trails: expected an option of probe, the nearest option is trials",
        ),
        (lambda: octprobe.probe("s", "p.tsv", pools="mean", pool="max"), "pool: .* the same as pools"),
        (lambda: octprobe.probe("s", "p.tsv", replicates=0), "--replicates: expected a number from 1"),
        (lambda: octprobe.load_encoder("random:huge"), "random"),
        (lambda: octprobe.load_encoder("random:tiny", encoder="vjepa2"), "encoder is what 'random:tiny' says already"),
        (lambda: octprobe.encode(np.zeros((1, 2, 2), np.float32), octprobe.load_encoder()), r"got float32 \[1, 2, 2\]"),
        (
            lambda: octprobe.encode(np.zeros((1, 2, 8, 8), np.float32), octprobe.load_encoder()),
            r"expected volumes of \[32",
        ),
        (lambda: octprobe.preprocess("none.dcm"), "none.dcm"),
        (lambda: octprobe.read_snapshot("nowhere"), "there is no store at nowhere"),
        (lambda: octprobe.load_run("nowhere"), "nowhere"),
    ],
)
def test_a_wrong_call_is_one_line(call: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(octprobe.OctProbeError, match=said) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def found(typed: dict[str, doctest.TestResults], clinic: Path) -> Snapshot:
    return octprobe.read_snapshot(str(clinic / "store"))


def labels_of(found: Snapshot) -> pd.DataFrame:
    people = sorted(set(found.index["participant"]))
    return pd.DataFrame({"participant_id": people, "grade": range(len(people))})


def test_a_frame_shows_ids_labels_then_features(found: Snapshot) -> None:
    table = found.frame(labels=labels_of(found))
    assert list(table.columns[:8]) == [
        "volume", "participant", "eye", "device", "protocol", "site", "grade", "last_mean_000",
    ]  # fmt: skip
    assert isinstance(table.index, pd.RangeIndex)
    np.testing.assert_array_equal(table.filter(like="last_mean_"), found.pooled[:, 0, found.pools.index("mean")])
    assert (table["participant"] == found.index["participant"]).all()
    expected = dict(zip(*labels_of(found).T.to_numpy(), strict=True))
    assert [expected[one] for one in table["participant"]] == table["grade"].tolist()
    assert list(found.frame("last", "max").columns[6:8]) == ["last_max_000", "last_max_001"]


def test_labels_meet_people_however_they_are_written(
    found: Snapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = labels_of(found)
    half = found.frame(labels=whole.head(len(whole) - 4))
    assert half["grade"].isna().sum() == 8
    assert "labels: 8 of 96 volumes have none" in capsys.readouterr().err
    for other in (
        whole.assign(participant_id=whole["participant_id"].astype(int)),
        whole.assign(participant_id=whole["participant_id"].astype(float)),
        whole.rename(columns={"participant_id": "person_id"}),
        whole.set_index("participant_id"),
    ):
        assert found.frame(labels=other)["grade"].tolist() == found.frame(labels=whole)["grade"].tolist()
    eyes = pd.concat([whole.assign(eye="L", grade=-1), whole.assign(eye="R")])
    table = found.frame(labels=eyes)
    assert (table["grade"] == -1).equals(table["eye"] == "L")
    volumes = pd.DataFrame({"volume": found.index["volume"], "place": range(96)})
    assert found.frame(labels=volumes)["place"].tolist() == list(range(96))
    (tmp_path / "labels.csv").write_text(
        "Participant ID;Grade;Code\n"
        + "".join(f"{one.participant_id};{one.grade or ''};0{one.grade}\n" for one in whole.itertuples())
    )
    read = found.frame(labels=tmp_path / "labels.csv")
    assert read["grade"].dtype.kind == "f"
    assert read["grade"].isna().sum() == 2
    assert set(read["code"]) == {f"0{grade}" for grade in whole["grade"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole: pd.concat([whole, whole.head(2)]), "one line per participant, got 2 more"),
        (lambda whole: whole.rename(columns={"participant_id": "who"}), "expected one column participant_id"),
        (lambda whole: whole.assign(participant=whole["participant_id"]), "expected one column"),
        (lambda whole: whole.assign(participant_id="9" + whole["participant_id"]), "do the two belong together"),
        (lambda whole: whole.assign(participant_id=[None, *whole["participant_id"][1:]]), "got 1 without"),
        (lambda whole: whole.assign(device="x"), "the column 'device' stands for something of the store"),
        (lambda whole: whole[["participant_id"]], "expected a column next to participant"),
        (lambda whole: whole.assign(eye="left"), "column eye: expected L, R or U, got 'left'"),
    ],
)
def test_labels_that_do_not_belong_are_refused(found: Snapshot, change: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        found.frame(labels=change(labels_of(found)))


def test_a_layer_that_is_not_there_is_refused(found: Snapshot) -> None:
    with pytest.raises(UsageError, match="layer 'first': expected one of last"):
        found.frame("first")
    with pytest.raises(UsageError, match="pool 'median': expected one of mean, max, std"):
        make_frame(found, None, "median", None)


def test_a_snapshot_says_in_four_lines_what_it_is(found: Snapshot) -> None:
    first, space, pooled, encoder = repr(found).splitlines()
    assert first == "Snapshot of 96 volumes of 48 participants: snapshot 1"
    assert space.startswith(f"space {found.space_id}: vjepa3d, width 192, fp32")
    assert pooled == "pooled float32 [96, 1, 3, 192]: layers last; pools mean, max, std"
    assert encoder.startswith("encoder: random:tiny")
