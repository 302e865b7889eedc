"""The section of the study page on people of other places: what was lost there, and how new the scans are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.run.estimate import Estimate
from classify.run.external_summary import shown_measures
from reports.page import in_words
from reports.runs import FinishedRun, to_estimate
from reports.tables import run_name
from reports.validity import TITLES, Cell, PlainTable

PROBABILITIES = ("log_loss", "brier", "expected_calibration_error")


@dataclass(frozen=True, slots=True)
class OtherPlace:
    """One look of a run at people of another place. words: sentences that go before the tables."""

    heading: str
    words: tuple[str, ...]
    tables: tuple[PlainTable, ...]


def other_places(runs: Sequence[FinishedRun]) -> list[OtherPlace]:
    """List the looks of all runs outside, oldest first; nothing where there are none."""
    looks = [(entry, run) for run in runs for entry in run.record.looks_outside]
    looks.sort(key=lambda look: look[0]["date"])
    return [_other_place(entry, run, runs, number) for number, (entry, run) in enumerate(looks, 1)]


def _other_place(entry: Mapping[str, Any], run: FinishedRun, runs: Sequence[FinishedRun], number: int) -> OtherPlace:
    sites = ", ".join(site for site in entry["place"]["sites"] if site) or "a site without a name"
    heading = f"{run_name(run, runs)} on people of {sites}"
    tables = (
        _results(entry, run, number),
        _calibration(entry, number),
        _novelty(entry, number),
        _missing(entry, number),
    )
    return OtherPlace(heading, tuple(_said(entry)), tuple(table for table in tables if table))


def _said(entry: Mapping[str, Any]) -> list[str]:
    size, again, place = entry["sizes"], entry["recalibration"], entry["place"]
    times = "once" if entry["look"] == 1 else f"{entry['look']} times by then"
    counted = f"{size['participants']} participants, {size['volumes']} volumes, judged on {entry['date'][:10]}"
    said = [f"{counted}; these people had been looked at {times}. Nobody of them is known to the run."]
    if absent := entry["absent_classes"]:
        said.append(f"Nobody there is {', '.join(map(in_words, absent))}: what needs these classes is absent.")
    if unknown := place["unknown_values"]:
        listed = ", ".join(f"“{value}” ({count})" for value, count in unknown.items())
        said.append(f"Left out, since the task does not know these labels: {listed}.")
    if same := place["same_number"]:
        said.append(
            f"{same} of them carry the number of somebody of the run, with none of the same scans, and count as others."
        )
    said += [
        f"{step['participants']} participants, {step['volumes']} volumes: {step['reason']}."
        for step in place["flow"]
        if step["kind"] != "total" and step["step"] != "not asked"
    ]
    if "absent" in again:
        said.append(f"Not recalibrated: {again['absent']}.")
    if place["phantom"]:
        said.append("Synthetic phantom: these numbers test the software; they are no finding.")
    return said


def _results(entry: Mapping[str, Any], run: FinishedRun, number: int) -> PlainTable:
    judged, split, transport = entry["judged"], entry["split"], entry["transport"]
    level = next(reversed(judged["metrics"]))
    measured, home = judged["metrics"][level][split], "home" if isinstance(transport, Estimate) else transport["home"]
    others, many = [name for name in judged["baselines"] if name != "dummy"], len(run.classes) > len(("no", "yes"))
    rows: list[tuple[Cell, ...]] = [
        (
            _title(name),
            to_estimate(measured[name]),
            _gap(transport, name),
            *(to_estimate(judged["baselines"][other][split].get(name)) for other in others),
        )
        for name in [*shown_measures(run.record, measured), *(f"auroc/{one}" for one in run.classes if many)]
    ]
    caption = (
        f"People of another place, {level} level. Transport gap: there minus {home} of the run, from independent "
        "bootstraps of both; an interval that holds 0 shows no difference, and proves none."
    )
    columns = ("Measure", "There", f"Minus {home} of the run", *others)
    return PlainTable(f"other-place-{number}", "What the run reaches there", caption, columns, rows)


def _gap(transport: Mapping[str, Any] | Estimate, name: str) -> Estimate:
    return transport if isinstance(transport, Estimate) else to_estimate(transport["gap"].get(name))


def _calibration(entry: Mapping[str, Any], number: int) -> PlainTable | None:
    again = entry["recalibration"]
    if "absent" in again:
        return None
    rows: list[tuple[Cell, ...]] = [
        (_title(name), *(to_estimate(again[part][name]) for part in ("before", "after", "difference")))
        for name in PROBABILITIES
    ]
    by_class = [
        levels[next(reversed(levels))].get("by_class", {}) for levels in (entry["probabilities"], again["levels"])
    ]
    rows += [
        (f"{title}, {in_words(name)}", *(to_estimate(side.get(name, {}).get(one)) for side in by_class), "")
        for one, title in (("slope", "Slope"), ("observed_expected", "Observed/expected"))
        for name in by_class[0]
    ]
    caption = (
        f"Recalibrated ({again['method']}) on {again['participants']} participants of the place, drawn at random, who "
        "are not judged. Before: as the run shows its probabilities. Of losses and errors lower is better; slopes and "
        "observed/expected should be 1."
    )
    if again["why_constant"]:
        caption += f" No calibration possible there ({again['why_constant']}): everybody is shown the class shares."
    columns = ("Measure", "Before", "After", "Difference")
    return PlainTable(f"other-place-{number}-calibration", "Calibration there", caption, columns, rows)


def _novelty(entry: Mapping[str, Any], number: int) -> PlainTable:
    rows: list[tuple[Cell, ...]] = [
        (
            line["device"],
            str(line["volumes"]),
            str(line["participants"]),
            "yes" if line["in_training"] else "no: such scans are not answered by classify predict",
            ", ".join(line["new_protocols"]) or "none",
            f"{line['median_percentile']:.0f}",
            f"{100 * line['beyond']:.1f} %",
        )
        for line in entry["novelty"]
    ]
    caption = (
        "How far the scans lie from those that the run was fitted on. Of scans like those of train, half lie beyond "
        "percentile 50, and 1 % beyond percentile 99."
    )
    columns = ("Device", "Volumes", "Participants", "In training", "New protocols", "Median percentile", "Beyond 99 %")
    return PlainTable(f"other-place-{number}-novelty", "How new the scans are", caption, columns, rows)


def _missing(entry: Mapping[str, Any], number: int) -> PlainTable | None:
    rows: list[tuple[Cell, ...]] = [(line["name"], f"absent: {line['reason']}") for line in entry["baselines_missing"]]
    if not rows:
        return None
    caption = "Nothing is claimed about what these would have reached there."
    heading = "Baselines that are absent there"
    return PlainTable(f"other-place-{number}-missing", heading, caption, ("Baseline", "Why"), rows)


def _title(name: str) -> str:
    kind, _, of = name.partition("/")
    title = TITLES.get(kind, in_words(kind).capitalize())
    return f"{title}, {in_words(of)}" if of else title
