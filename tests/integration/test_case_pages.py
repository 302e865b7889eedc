"""Case and study pages from a phantom bucket, opened in a browser from disk (all data: SYNTHETIC PHANTOM)."""

import json
import re
from pathlib import Path
from time import perf_counter

import pandas as pd
import pytest
from chromium import Open
from command_line import run_here

HOSTILE = "zz<img src=x onerror=alert(1)>"
SCANS = ("heidelberg_spectralis", "spectralis_ppol_mac_hr")


def run(name: str, *arguments: object) -> str:
    done = run_here(name, *arguments)
    assert done.code == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a bucket (one hostile protocol name), a store with tokens, a run, a study page and three case pages."""
    folder = tmp_path_factory.mktemp("case")
    bucket, store, runs, out = (folder / name for name in ("bucket", "store", "runs", "report"))
    run("oct-phantom", "--out", bucket, "--participants", 60, "--scale", 0.12, "--devices", SCANS[0], "--effect", 20)
    people = bucket / "participants.tsv"
    val = [line.split("\t")[0] for line in people.read_text().splitlines() if "\tval\t" in line]
    renamed = next(iter(sorted(bucket.rglob(f"{val[0]}_*.dcm"))))
    renamed.rename(renamed.with_name(renamed.name.replace(SCANS[1], HOSTILE)))
    lines = people.read_text().splitlines()
    row = next(number for number, line in enumerate(lines) if "\ttrain\t" in line)
    lines[row] = re.sub(
        "healthy|pre_diabetes_lifestyle_controlled|oral[a-z_]+|insulin_dependent", "<b>9</b>", lines[row]
    )
    people.write_text("\n".join(lines) + "\n")
    (bucket / "retinal_oct" / "manifest.tsv").unlink()
    run("extract-embeddings", "--bucket", bucket, "--store", store, "--encoder", "random:tiny", "--tokens", "full",
        "--image-size", "16,48,48")  # fmt: skip
    run("classify", "probe", "--model", "linear", "--store", store, "--participants", people, "--runs", runs)
    run("reports", "study", "--store", store, "--runs", runs, "--out", out)
    started = perf_counter()
    told = run("reports", "case", "--store", store, "--runs", runs, "--out", out, "--bucket", bucket, "--json",
               "--participant", ",".join(val[:3]))  # fmt: skip
    print(f"three case pages: {perf_counter() - started:.1f} s")
    (out / "told.json").write_text(told)
    return out


def cases(study: Path) -> list[Path]:
    return sorted(study.glob("case-*.html"))


def test_three_pages_of_a_sensible_size(study: Path) -> None:
    told = json.loads((study / "told.json").read_text())["cases"]
    assert [Path(one["page"]) for one in told] == cases(study)
    assert len(told) == 3
    assert max(one["size_bytes"] for one in told) < 15e6
    assert all(one["scans"] == 2 for one in told)


def test_the_page_says_what_it_must(study: Path) -> None:
    for page in cases(study):
        text = page.read_text()
        for words in ("Research use only", "SYNTHETIC PHANTOM", "not where a lesion lies", "Age and site alone", "OD"):
            assert words in text


def test_the_study_page_says_how_far_the_result_can_be_believed(study: Path) -> None:
    page = (study / "study.html").read_text().replace("<wbr>", "")
    record = json.loads(next(study.parent.glob("runs/*/run.json")).read_text())
    for part in ("contrasts", "subgroups", "calibration", "nuisance", "weights", "decision", "map", "shap"):
        assert f'id="{part}"' in page
    for line in record["subgroups"]["val"]:
        assert f"<td>{line['value']}</td>" in page.replace(HOSTILE, "") or line["value"].startswith("zz")
    for weight in record["class_weights"].values():
        assert f"<td>{weight:.3f}</td>" in page


def test_nothing_of_the_bucket_becomes_markup(study: Path) -> None:
    text = cases(study)[0].read_text()
    assert "onerror=alert" in text  # the protocol's name is shown, as text
    assert "<img src=x" not in text
    study_page = (study / "study.html").read_text()
    assert "&lt;b&gt;9&lt;/b&gt;" in study_page  # why a participant was left out
    assert "<b>9</b>" not in study_page
    assert "<img src=x" not in study_page


def test_somebody_whom_the_run_never_saw_gets_what_predict_says(study: Path, tmp_path: Path) -> None:
    bucket, store, runs = (study.parent / name for name in ("bucket", "store", "runs"))
    people = (bucket / "participants.tsv").read_text().splitlines()
    new = next(line.split("\t")[0] for line in people if "<b>9</b>" in line)  # left out, for want of a class
    told = run("reports", "case", "--store", store, "--runs", runs, "--out", tmp_path, "--participant", new, "--json")
    text = Path(json.loads(told)["cases"][0]["page"]).read_text()
    assert "asked for; new to the run" in text
    assert "Recorded group: absent, this participant is new to the run" in text
    lines = tmp_path / "lines.csv"
    run("classify", "predict", "--run", next(runs.glob("*-linear-*")), "--store", store, "--out", lines)
    found = pd.read_csv(lines, dtype={"unit": str}).query("level == 'participant'").set_index("unit").loc[new]
    for probability in found.filter(like="probability_"):
        assert f"{100 * float(probability):.0f}&nbsp;%" in text


def test_a_case_page_works_in_a_browser_from_disk(study: Path, open_page: Open) -> None:
    with open_page(cases(study)[1]) as opened:
        page = opened.page
        viewer = page.locator("[data-viewer]").first
        shown = viewer.locator("[data-frame]:visible")
        before = shown.get_attribute("data-frame")
        viewer.locator("[data-role=frame]").press("ArrowRight")
        assert shown.count() == 1
        assert shown.get_attribute("data-frame") != before
        assert viewer.locator("[data-role=frame-label]").inner_text() == shown.get_attribute("data-frame")
        heat = viewer.locator("[data-heat]:visible").first
        assert float(heat.evaluate("e => getComputedStyle(e).opacity")) > 0.3
        viewer.locator("[data-role=opacity]").fill("20")
        assert float(heat.evaluate("e => getComputedStyle(e).opacity")) == pytest.approx(0.2)
        viewer.locator("[data-role=shown]").uncheck()
        assert float(heat.evaluate("e => getComputedStyle(e).opacity")) == 0
        assert opened.said == []
        assert opened.requested == []


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1024, True), (820, False), (390, True)])
def test_no_page_is_wider_than_its_screen(study: Path, width: int, open_page: Open, *, dark: bool) -> None:
    for path in (study / "study.html", cases(study)[0]):
        with open_page(path, width=width, dark=dark) as opened:
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
            assert opened.said == []


def test_tables_of_the_study_page_sort(study: Path, open_page: Open) -> None:
    with open_page(study / "study.html") as opened:
        table = opened.page.locator("table[data-sortable]").first
        button = table.locator("thead button").first
        button.click()
        rising = table.locator("tbody tr th").all_inner_texts()
        button.click()
        assert table.locator("tbody tr th").all_inner_texts() == rising[::-1]
        assert len(set(rising)) > 2
        assert opened.said == []


def test_every_table_of_data_sorts_by_every_column_and_by_keyboard(study: Path, open_page: Open) -> None:
    with open_page(study / "study.html") as opened:
        assert opened.page.locator("table:not([data-sortable])").count() == 0
        for table in opened.page.locator("table[data-sortable]").all():
            assert table.locator("thead th").count() == table.locator("thead th button").count() > 0
        splits = opened.page.locator("#splits")
        last = splits.locator("thead button").nth(1)
        last.press("Enter")
        rising = [int(cell) for cell in splits.locator("tbody td:nth-child(2)").all_inner_texts()]
        assert rising == sorted(rising)
        last.press("Enter")
        assert splits.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
        assert [int(cell) for cell in splits.locator("tbody td:nth-child(2)").all_inner_texts()] == rising[::-1]
        assert opened.said == []


def test_a_case_page_prints(study: Path, tmp_path: Path, open_page: Open) -> None:
    with open_page(cases(study)[0]) as opened:
        printed = opened.page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 1
