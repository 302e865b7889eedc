"""Splits that are made, kept in a file, and refused where they do not fit; folds that a column says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.cohort.labels import Labels, LabelSource, read_labels
from classify.cohort.made_splits import SPLITS_FILE, check_shares, parse_shares, read_splits_file
from classify.cohort.questions import Question
from classify.errors import CohortError, LeakError
from classify.options import ProbeOptions
from embeddings_store.command_line import parse_words
from embeddings_store.errors import OctProbeError, UsageError

SHARES = (70.0, 15.0, 15.0)


def make_people(count: int = 100, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "participant": [f"{number:04d}" for number in range(count)],
            "dr": rng.permutation(
                ["mild"] * (count * 6 // 10) + ["some"] * (count * 3 // 10) + ["severe"] * (count // 10)
            ),
            "site": rng.choice(["north", "south"], count),
        }
    )


def write(folder: Path, people: pd.DataFrame, name: str = "labels.csv") -> Path:
    people.to_csv(folder / name, index=False)
    return folder / name


def read(
    path: Path, target: str = "dr", *, kept: bool = False, said: list[str] | None = None, **source: object
) -> Labels:
    question = Question(name=target, where=f"--target {target}", target=target, kind=source.pop("kind", "nominal"))  # type: ignore[arg-type]
    tell = (said if said is not None else []).append
    labels = read_labels(LabelSource(None, path, **source), question, tell)  # type: ignore[arg-type]
    if kept:
        labels.keep_splits(tell)
    return labels


def splits_of(labels: Labels) -> dict[str, str]:
    return dict(zip(labels.lines["participant"], labels.lines["split"], strict=True))


def test_made_splits_have_the_shares_in_each_class_and_site(tmp_path: Path) -> None:
    lines = read(write(tmp_path, make_people()), shares=SHARES).lines
    assert lines["split"].value_counts().to_dict() == {"train": 70, "val": 15, "test": 15}
    for by in ("group", "site"):
        table = pd.crosstab(lines[by], lines["split"], normalize="index")[["train", "val", "test"]]
        assert (table - [0.7, 0.15, 0.15]).abs().to_numpy().max() < 0.08


def test_sites_have_the_shares_whatever_the_seed(tmp_path: Path) -> None:
    path, worst = write(tmp_path, make_people()), []
    for seed in range(20):
        lines = read(path, shares=SHARES, seed=seed).lines
        table = pd.crosstab(lines["site"], lines["split"], normalize="index")[["train", "val", "test"]]
        worst.append((table - [0.7, 0.15, 0.15]).abs().to_numpy().max())
    assert max(worst) < 0.06, "people drawn without a look at their site are up to 0.10 off in these seeds"


@pytest.mark.parametrize("classes", [2, 7, 20])
def test_many_small_classes_still_give_the_shares_in_all(tmp_path: Path, classes: int) -> None:
    people = make_people(200).assign(dr=[f"class {number % classes}" for number in range(200)])
    counts = read(write(tmp_path, people), shares=(80.0, 15.0, 5.0)).lines["split"].value_counts()
    assert counts.sum() == 200
    assert abs(counts["val"] - 30) <= 2
    assert counts["test"] in (range(9, 12) if classes < 20 else range(20, 22))  # each class has one at least


def test_they_depend_on_people_labels_and_seed_alone(tmp_path: Path) -> None:
    people = make_people()
    first = splits_of(read(write(tmp_path, people), shares=SHARES))
    assert first == splits_of(read(write(tmp_path, people.sample(frac=1, random_state=3)), shares=SHARES))
    assert first != splits_of(read(write(tmp_path, people), shares=SHARES, seed=1))


def test_a_small_class_has_somebody_in_every_split(tmp_path: Path) -> None:
    people = make_people(40).assign(dr=["rare"] * 3 + ["common"] * 37)
    lines = read(write(tmp_path, people), shares=(90.0, 5.0, 5.0)).lines
    assert set(lines.loc[lines["group"] == "rare", "split"]) == {"train", "val", "test"}


@pytest.mark.parametrize(("level", "key"), [("eye", ["eye"]), ("scan", ["file"])])
def test_people_stay_whole_whatever_the_level(tmp_path: Path, level: str, key: list[str]) -> None:
    people = make_people(60)
    both = pd.concat([people.assign(eye=eye, file=people["participant"] + f"/{eye}.dcm") for eye in "LR"])
    both["dr"] = np.random.default_rng(1).choice(["some", "mild"], len(both))
    lines = read(write(tmp_path, both[["participant", *key, "dr"]]), shares=SHARES).lines
    assert len(lines) == 120, level
    assert lines.groupby("participant")["split"].nunique().max() == 1
    assert set(lines["split"]) == {"train", "val", "test"}


def test_scans_that_name_nobody_are_split_by_the_owners_in_the_store(tmp_path: Path) -> None:
    scans = pd.DataFrame({"file": [f"{n}.png" for n in range(60)], "dr": ["a", "b"] * 30})
    labels = read(write(tmp_path, scans), shares=SHARES)
    owners = pd.DataFrame({"volume": labels.lines["volume"], "participant": [f"P{n // 3}" for n in range(60)]})
    lines = labels.of(owners).lines
    assert lines.groupby("participant")["split"].nunique().max() == 1
    labels.of(owners).keep_splits(lambda _: None)
    again = read(tmp_path / "labels.csv").of(owners).lines
    assert again["split"].tolist() == lines["split"].tolist()


def test_numbers_are_split_by_fifths(tmp_path: Path) -> None:
    people = make_people(100).assign(axial=np.linspace(20, 30, 100))
    lines = read(write(tmp_path, people[["participant", "axial"]]), "axial", shares=SHARES, kind="number").lines
    means = lines.assign(axial=lines["group"].astype(float)).groupby("split")["axial"].mean()
    assert (means - 25).abs().max() < 0.5


def test_the_file_says_how_it_was_made_and_later_runs_use_it(tmp_path: Path) -> None:
    path, said = write(tmp_path, make_people()), list[str]()
    made = read(path, shares=SHARES, kept=True, said=said)
    assert "made 70/15/15, seed 0, 70 train, 15 val, 15 test participants; kept in splits.csv" in said[-1]
    comment = (tmp_path / SPLITS_FILE).read_text().splitlines()[0]
    assert comment == (
        "# splits by octprobe: shares 70/15/15; seed 0; by participant, stratified by dr and site; target dr of each "
        "participant; made from labels.csv (100 participants)"
    )
    later = read(path, said=said)
    assert splits_of(later) == splits_of(made)
    assert later.splitting.origin == {"kind": "kept", "file": SPLITS_FILE, "shares": [70.0, 15.0, 15.0], "seed": 0,
                                    "made_from": "labels.csv"}  # fmt: skip
    assert "splits: of splits.csv next to labels.csv, made 70/15/15, seed 0 from labels.csv" in said
    assert splits_of(read(path, shares=SHARES)) == splits_of(made)
    assert {one.name for one in tmp_path.iterdir()} == {"labels.csv", SPLITS_FILE}


def test_everybody_gets_a_split_so_that_other_targets_have_it_too(tmp_path: Path) -> None:
    people = make_people().assign(dme=["yes", "no"] * 50)
    people.loc[:9, "dr"] = ""
    read(write(tmp_path, people), shares=SHARES, kept=True)
    assert set(read(tmp_path / "labels.csv", "dme").lines["split"]) == {"train", "val", "test"}


def test_made_splits_come_before_a_column_that_nobody_asked_for(tmp_path: Path) -> None:
    path, said = write(tmp_path, make_people().assign(split=["train", "val"] * 50)), list[str]()
    made = splits_of(read(path, shares=SHARES, kept=True))
    assert splits_of(read(path, said=said)) == made
    assert "not of its column split, for which give --split-column split" in said[-1]
    assert read(path, split_column="split").splitting.origin == {"kind": "column", "column": "split"}
    other = write(tmp_path, make_people().assign(split=["train", "val"] * 50), "others.csv")
    assert read(other).splitting.origin == {"kind": "column", "column": "split"}
    (tmp_path / SPLITS_FILE).write_text("something,else\n1,2\n")
    assert read(other).splitting.origin == {"kind": "column", "column": "split"}


def test_a_file_as_a_spreadsheet_saves_it_still_fits(tmp_path: Path) -> None:
    path = write(tmp_path, make_people())
    made = splits_of(read(path, shares=SHARES, kept=True))
    comment, *lines = (tmp_path / SPLITS_FILE).read_text().splitlines()
    (tmp_path / SPLITS_FILE).write_text("\r\n".join([f'"{comment}";', *(one.replace(",", ";") for one in lines)]))
    assert splits_of(read(path, shares=SHARES)) == made


def test_splits_written_by_hand_are_used(tmp_path: Path) -> None:
    people = make_people()
    write(tmp_path, people[["participant"]].assign(split=["train", "Validation"] * 50), SPLITS_FILE)
    labels = read(write(tmp_path, people))
    assert set(labels.lines["split"]) == {"train", "val"}
    assert labels.splitting.origin == {"kind": "kept", "file": SPLITS_FILE}
    with pytest.raises(
        UsageError, match=r"splits\.csv next to labels\.csv is there already, not made by --make-splits"
    ):
        read(tmp_path / "labels.csv", shares=SHARES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (60.0, 20.0, 20.0)}, r"--make-splits 60/20/20, seed 0: splits.csv .* made 70/15/15, seed 0; leave"),
        ({"shares": SHARES, "seed": 1}, r"--make-splits 70/15/15, seed 1: splits.csv .* made 70/15/15, seed 0"),
    ],
)
def test_other_shares_or_another_seed_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = write(tmp_path, make_people())
    read(path, shares=SHARES, kept=True)
    before = (tmp_path / SPLITS_FILE).read_bytes()
    with pytest.raises(UsageError, match=message):
        read(path, kept=True, **options)
    assert (tmp_path / SPLITS_FILE).read_bytes() == before


def test_people_without_a_split_are_named(tmp_path: Path) -> None:
    read(write(tmp_path, make_people()), shares=SHARES, kept=True)
    write(tmp_path, make_people(110))
    with pytest.raises(CohortError, match=r"10 participants with a label have no split in it, such as 0100, 0101"):
        read(tmp_path / "labels.csv")


def test_a_file_of_other_people_is_refused(tmp_path: Path) -> None:
    people = make_people()
    read(write(tmp_path, people), shares=SHARES, kept=True)
    write(tmp_path, people.assign(participant=[f"Q{number}" for number in range(100)]))
    with pytest.raises(CohortError, match=r"expected the ids of splits\.csv next to it, got 100 ids of which 0"):
        read(tmp_path / "labels.csv")


def test_fewer_people_are_counted(tmp_path: Path) -> None:
    read(write(tmp_path, make_people()), shares=SHARES, kept=True)
    said: list[str] = []
    read(write(tmp_path, make_people().iloc[:80]), said=said)
    assert "splits.csv next to labels.csv: 20 of its 100 participants are not in labels.csv" in said


@pytest.mark.parametrize(
    ("text", "fault", "message"),
    [
        (
            "participant,split\n0001,train\n0001,test\n",
            LeakError,
            "participant 0001 stands in two splits, train and test",
        ),
        ("a,b\n1,2\n", CohortError, r"splits\.csv next to the labels: expected a header with participant"),
        ("participant,side\n0001,train\n", CohortError, "expected the columns participant and split"),
        ("participant,split\n0001,trian\n", CohortError, r"line 2, column split: expected one of train, val, test"),
        ("participant,split\n,train\n", CohortError, "expected a participant's id, got none"),
        ("", CohortError, r"splits\.csv next to the labels: expected a table"),
    ],
)
def test_a_file_that_is_no_splits_file_is_refused(
    tmp_path: Path, text: str, fault: type[OctProbeError], message: str
) -> None:
    (tmp_path / SPLITS_FILE).write_text(text)
    with pytest.raises(fault, match=message):
        read(write(tmp_path, make_people()))


def test_a_file_that_came_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path, make_people())
    made = read(path, shares=SHARES)
    write(tmp_path, make_people()[["participant"]].assign(split="train"), SPLITS_FILE)
    before = (tmp_path / SPLITS_FILE).read_bytes()
    with pytest.raises(CohortError, match="was written by somebody else meanwhile"):
        made.keep_splits(lambda _: None)
    assert (tmp_path / SPLITS_FILE).read_bytes() == before
    assert read_splits_file(tmp_path / SPLITS_FILE).making is None


def test_a_class_that_cannot_be_everywhere_is_refused(tmp_path: Path) -> None:
    people = make_people(40).assign(dr=["rare"] * 2 + ["common"] * 38)
    with pytest.raises(CohortError, match=r"every class needs a participant in train, val and test, and rare has 2"):
        read(write(tmp_path, people), shares=SHARES)
    assert not (tmp_path / SPLITS_FILE).exists()


def test_without_any_split_the_three_ways_are_named(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"--split-column NAME .*--make-splits 70/15/15.*--cross-validate 5"):
        read(write(tmp_path, make_people()))


@pytest.mark.parametrize(
    "text", ["70/15", "70/15/15/0", "70/30/0", "80/15/15", "a/b/c", "", "100", "-70/85/85", "nan/50/50", "inf/1/1"]
)
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--make-splits: expected shares of train, val and test"):
        parse_shares(text)


def test_shares_of_one_are_percents_too() -> None:
    assert parse_shares("0.7/0.15/0.15") == SHARES == check_shares((0.7, 0.15, 0.15))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"make_splits": "70/15/15", "participants": Path("p.tsv")}, "--make-splits: goes with --labels"),
        (
            {"make_splits": "70/15/15", "labels": Path("l.csv"), "split_column": "x"},
            "--make-splits and --split-column x",
        ),
        (
            {"make_splits": "70/15/15", "labels": Path("l.csv"), "cross_validate": 5},
            "--make-splits and --cross-validate: expected one of them",
        ),
    ],
)
def test_two_ways_at_once_are_refused(words: dict[str, object], message: str) -> None:
    options = parse_words(ProbeOptions, model="linear", store="store", **words)
    with pytest.raises(UsageError, match=message):
        _ = options.label_source


def test_a_column_of_numbers_says_folds(tmp_path: Path) -> None:
    path = write(tmp_path, make_people().assign(fold=np.arange(100) % 5))
    labels = read(path, split_column="fold", crosses=True)
    assert labels.crossed
    assert set(labels.lines["split"]) == {"train"}
    assert labels.lines["fold"].tolist() == [str(number % 5) for number in range(100)]
    assert read(path, split_column="fold", crosses=True, folds=5).crossed


@pytest.mark.parametrize(
    ("fold", "options", "message"),
    [
        (["1", "2"] * 50, {"crosses": False}, "only classify probe and compare cross-validate"),
        (["1", "train"] * 50, {}, "numbers of folds in 50 lines and train in others"),
        (["1", "1"] * 50, {}, "expected at least two folds, got 1"),
        (["1", "2"] * 50, {"folds": 3}, "expected 3 folds, as --cross-validate says, got 2"),
        (["1", "2.5"] * 50, {}, "expected one of train, val, test, or the number of a fold"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(
    tmp_path: Path, fold: list[str], options: dict[str, object], message: str
) -> None:
    path = write(tmp_path, make_people().assign(fold=fold))
    with pytest.raises(OctProbeError, match=message):
        read(path, split_column="fold", **{"crosses": True} | options)


def test_a_participant_in_two_folds_is_a_leak(tmp_path: Path) -> None:
    people = make_people(20)
    both = pd.concat([people.assign(eye="L", fold=1), people.assign(eye="R", fold=1)])
    both.iloc[0, both.columns.get_loc("fold")] = 2
    with pytest.raises(LeakError, match=r"participants in two splits of --labels labels\.csv: 0000"):
        read(write(tmp_path, both), split_column="fold", crosses=True)


def test_test_people_of_a_column_stay_locked_out_of_the_folds(tmp_path: Path) -> None:
    said: list[str] = []
    path = write(tmp_path, make_people().assign(split=["train", "val", "test", "train"] * 25))
    lines = read(path, folds=5, crosses=True, said=said).lines
    assert lines["split"].value_counts().to_dict() == {"train": 75, "test": 25}
    assert "cross-validation: 25 test participants of split stay locked, and in no fold" in said
