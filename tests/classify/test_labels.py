"""Labels of any table: what is asked is completed by its values, and each mistake is one message."""

from collections.abc import Callable
from pathlib import Path

import pytest

from classify.cohort.labels import Labels, LabelSource, read_labels
from classify.cohort.questions import Question
from classify.cohort.tasks import find_question
from classify.errors import CohortError, LeakError
from classify.options import ProbeOptions
from classify.question_options import TargetOptions
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.schema import volume_id

PEOPLE = """participant,dme,grade,drusen,thickness,site,age,split
p1,no,0,Normal,210.5,A,61,train
p2,yes,1,AMD,"190,0",A,70,train
p3,no,2,Normal,300,B,55,val
p4,yes,1,AMD,250,B,,test
"""
EYES = """patient_id;Eye;DME;iop;split
1;OD;no;14;train
1;OS;yes;15;train
2;right;no;16;val
2;left;no;;val
"""
SCANS = """file,label,split
a/x.dcm,CNV,train
./a/y.dcm,DRUSEN,train
b/,NORMAL,val
"""


def read(folder: Path, text: str, **asked: object) -> Labels:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    options = TargetOptions(labels=path, **asked)
    return read_labels(options.label_source, options.question(None), print)


def test_two_values_that_say_which_is_positive_need_no_option(tmp_path: Path) -> None:
    task = read(tmp_path, PEOPLE, target="dme").task
    assert (task.kind, task.classes, task.level, task.covariates) == ("binary", ("no", "yes"), "participant", None)
    assert read(tmp_path, PEOPLE, target="drusen").task.classes == ("Normal", "AMD")
    assert read(tmp_path, PEOPLE, target="drusen", positive="Normal").task.classes == ("AMD", "Normal")


def test_a_number_is_read_with_its_decimal_comma(tmp_path: Path) -> None:
    found = read(tmp_path, PEOPLE, target="thickness", kind="number")
    assert found.task.classes == ()
    assert [found.task.number_of(text) for text in found.lines["group"]] == [210.5, 190.0, 300.0, 250.0]


def test_the_finest_column_says_whose_the_label_is(tmp_path: Path) -> None:
    eyes = read(tmp_path, EYES, target="dme")
    assert eyes.task.level == "eye"
    assert eyes.lines[["participant", "eye", "group"]].values.tolist() == [
        ["1", "L", "yes"], ["1", "R", "no"], ["2", "L", "no"], ["2", "R", "no"],
    ]  # fmt: skip
    scans = read(tmp_path, SCANS, target="label")
    assert (scans.task.level, scans.task.kind) == ("scan", "nominal")
    assert set(scans.lines["volume"]) == {str(volume_id(key)) for key in ("a/x.dcm", "a/y.dcm", "b")}
    joined = read(tmp_path, SCANS.replace("b/,", "c/1.png|c/2.png,"), target="label")
    assert str(volume_id("c")) in set(joined.lines["volume"])


def grades(*words: str) -> str:
    return "participant,dr,split\n" + "".join(f"p{n},{word},train\n" for n, word in enumerate(words))


def test_a_grade_called_none_is_a_value_where_the_question_or_one_other_value_says_so(tmp_path: Path) -> None:
    three = grades("None", "mild", "severe", "unknown", "")
    for asked in (
        {"classes": ("None", "mild", "severe"), "kind": "ordered"},
        {"classes": ("None", "mild"), "positive": "mild"},
    ):
        assert read(tmp_path, three, target="dr", **asked).lines["group"].tolist() == ["None", "mild", "severe", "", ""]
    assert "unknown" in set(
        read(tmp_path, three, target="dr", exclude=("None", "unknown"), positive="severe").lines["group"]
    )
    assert read(tmp_path, grades("none", "amd"), target="dr").task.classes == ("none", "amd")


def test_none_among_numbers_is_no_value_and_among_words_nobody_knows(tmp_path: Path) -> None:
    numbers = read(tmp_path, grades("3", "none", "4.5", "5"), target="dr", kind="number")
    assert numbers.lines["group"].tolist() == ["3", "", "4.5", "5"]
    with pytest.raises(CohortError, match=r"'None' in 2 lines, which may be a class or no value; name it in --classes"):
        read(tmp_path, grades("None", "mild", "severe", "None"), target="dr")


def test_lines_of_a_unit_fill_each_other_and_what_differs_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "participant,dme,iop,age,split\np1,no,,60,train\np1,no,14,61,\np2,yes,15,,val\n"
    found = read(tmp_path, text, target="dme", covariates=("age", "iop")).lines
    assert found[["iop", "age"]].iloc[0].tolist() == [14, 60]
    assert "1 participants have several values of age, of which the first counts" in capsys.readouterr().out


def test_site_and_age_are_covariates_by_any_of_their_names(tmp_path: Path) -> None:
    text = PEOPLE.replace("site", "Clinical Site")
    assert read(tmp_path, text, target="dme", covariates=("clinical_site", "age")).task.covariates == ("site", "age")
    with pytest.raises(LeakError, match="covariate site: refused: it is the target itself"):
        read(tmp_path, text, target="clinical_site", positive="B", covariates=("site",))


def test_limits_are_counted_and_excluded_words_are_no_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = grades("12", ">89", "13", "not done")
    found = read(tmp_path, text, target="dr", kind="number", exclude=("not done",))
    assert found.task.number_of(">89") == 89
    assert "1 values of dr are limits, such as >89, and count as the limit" in capsys.readouterr().out


def test_covariates_are_numbers_or_groups_and_may_be_missing(tmp_path: Path) -> None:
    found = read(tmp_path, EYES, target="dme", covariates=("iop",))
    assert found.lines["iop"].isna().sum() == 1
    assert found.lines["iop"].max() == 16


@pytest.mark.parametrize(
    ("text", "asked", "message"),
    [
        (PEOPLE, {"target": "dmee"}, "--target dmee: no such column; the nearest: dme"),
        (PEOPLE, {"target": "dme", "covariates": ("sexx",)}, "covariates sexx: no such column"),
        (PEOPLE.replace("yes", "no"), {"target": "dme"}, "expected at least two classes, got 'no' (4)"),
        (PEOPLE.replace("split", "part"), {"target": "dme"}, "--split-column"),
        (PEOPLE, {"target": "grade"}, "may be codes, grades or measurements; give --kind"),
        (PEOPLE, {"target": "grade", "kind": "ordered"}, "needs its classes in order; give --classes"),
        (PEOPLE.replace("Normal", "CNV"), {"target": "drusen"}, "Give --positive"),
        (PEOPLE, {"target": "dme", "positive": "maybe"}, "positive: expected one of no, yes, got 'maybe'"),
        (PEOPLE, {"target": "dme", "classes": ("no", "yess")}, "did you mean 'yes'"),
        (PEOPLE, {"target": "dme", "kind": "number"}, "expected numbers, got 'no' (2), 'yes' (2)"),
        (PEOPLE, {"target": "dme", "level": "eye"}, "a column eye for labels of the level eye"),
        (PEOPLE, {"target": "dme", "covariates": ("dme",)}, "covariate dme: refused: it is the target itself"),
        (PEOPLE + "p1,yes,0,Normal,210.5,A,61,train\n", {"target": "dme"}, "such as p1: no, yes"),
        (PEOPLE + "p1,no,0,Normal,210.5,A,61,test\n", {"target": "dme"}, "participants in two splits"),
        (EYES, {"target": "dme", "level": "participant"}, "belongs to an eye or a scan, say so with --level"),
        (EYES.replace("OD", "middle"), {"target": "dme"}, "line 2, column eye: expected an eye"),
        (PEOPLE.replace("train", "learn"), {"target": "dme"}, "'learn'"),
        ("x,dme,split\n1,no,train\n", {"target": "dme"}, "or file"),
        (PEOPLE, {"target": "participant"}, "got participant, which says whose a scan is"),
        (PEOPLE.replace("participant", "patient_id"), {"target": "patient_id"}, "got patient_id, which says whose"),
        (PEOPLE, {"target": "split"}, "got split, which says who is tested"),
        (PEOPLE.replace("participant", "patient_id"), {"target": "dme", "covariates": ("patient_id",)}, "says whose"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_message(tmp_path: Path, text: str, asked: dict[str, object], message: str) -> None:
    with pytest.raises((OctProbeError, ValueError)) as refused:
        read(tmp_path, text, **asked)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_forty_values_are_no_classes(tmp_path: Path) -> None:
    lines = "".join(f"p{n},name{n},train\n" for n in range(40))
    with pytest.raises(UsageError, match="40 different values, which is too many for classes"):
        read(tmp_path, "participant,code,split\n" + lines, target="code")


def test_a_task_file_and_a_target_are_two_questions(tmp_path: Path) -> None:
    asked: Callable[..., ProbeOptions] = lambda **more: ProbeOptions(model="linear", store="s", **more)  # noqa: E731
    labels = tmp_path / "labels.csv"
    for options, message in (
        (asked(labels=labels, target="dme", task="four-class"), "--task four-class and --target dme"),
        (asked(labels=labels), "expected --target COLUMN, or --task FILE.yaml"),
        (asked(labels=labels, task="x.yaml", kind="binary"), "--kind: goes with --target"),
        (asked(participants=labels, target="dme"), "expected --labels FILE"),
    ):
        with pytest.raises(UsageError, match=message):
            options.question(options.task)
    for options in (asked(), asked(labels=labels, participants=labels)):
        with pytest.raises(UsageError, match="expected one of them"):
            _ = options.label_source


def test_a_task_file_asks_any_column(tmp_path: Path) -> None:
    file = tmp_path / "amd.yaml"
    file.write_text(
        "name: amd\ntarget: drusen\nkind: binary\nclasses: [healthy, amd]\npositive: amd\n"
        "groups: {healthy: [Normal], amd: [AMD, GA]}\nexclude: [RVO]\ncovariates: [age]\n"
    )
    (tmp_path / "labels.csv").write_text(PEOPLE)
    found = read_labels(LabelSource(None, tmp_path / "labels.csv"), find_question(str(file)), print)
    assert dict(found.task.class_of) == {"Normal": 0, "AMD": 1, "GA": 1}
    assert (found.task.covariates, found.task.exclude) == (("age",), ("RVO",))


def test_survival_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: x\ntarget: drusen\nkind: time\n")
    with pytest.raises(UsageError, match="kind time: not possible yet"):
        find_question(str(file))
    assert Question(name="x", where="x").level is None
