"""Stored rows as Markdown: all of them, and the worst of each kind, for docs/performance.md."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sources import sources_digest

VERDICTS = {True: "met", False: "**not met**", None: "–"}
RIGHT = {"ours", "peer's", "ratio", "reached"}
HEAD = ("", "work", "peer", "ours", "peer's", "ratio", "goal", "", "measured", "notes")
WORST = "the row furthest below its goal, or nearest to it"
SUMMARY_HEAD = ("", WORST, "against", "reached", "goal", "", "measured", "goals met")


def markdown_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Draw rows as they are stored; a ratio above 1 means that ours is faster or smaller."""
    return _table(HEAD, [_cells(row) for row in rows])


def summary_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Draw one line for each kind of work that has goals: its worst row, and how many of its goals are met."""
    judged: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["met"] is not None:
            judged.setdefault(row["id"], []).append(row)
    return _table(SUMMARY_HEAD, [_summary_cells(kind) for kind in judged.values()])


def replace_block(page: str, block: str, name: str = "bench") -> str:
    """Put the table between the markers of that name. Raises: ValueError where there are none."""
    place = re.compile(rf"<!-- {name} -->.*?<!-- /?{name} -->", re.DOTALL)
    if not place.search(page):
        raise ValueError(f"page: expected a line <!-- {name} --> and, after it, a line <!-- /{name} -->, found none")
    return place.sub(lambda _: f"<!-- {name} -->\n{block}\n<!-- /{name} -->", page, count=1)


def describe_run(record: Mapping[str, Any]) -> str:
    """Say in one sentence when and where the table was measured."""
    loads = [row["load_average"]["before"] for row in record["rows"]]
    busy = f" **Provisional: the machine was busy (load average up to {max(loads)}).**" if record["provisional"] else ""
    versions, old = record["versions"], _old(record["rows"])
    return (
        f"Measured on {record['machine']}, each row at the date and commit that it says: Python {versions['python']}, "
        f"torch {versions.get('torch', 'none')}, NumPy {versions.get('numpy', 'none')}. "
        f"A ratio above 1 means that ours is faster or smaller. All data is phantom or random.{busy}{old}"
    )


def _old(rows: Sequence[Mapping[str, Any]]) -> str:
    old = sum(_is_old(row) for row in rows)
    return f" **{old} of {len(rows)} rows are older than the code that they measure; they say so.**" if old else ""


@cache
def _digest_now(bench: str) -> str:
    return sources_digest(bench)


def _is_old(row: Mapping[str, Any]) -> bool:
    return bool(row["sources"] != _digest_now(row["bench"]))


def _measured(row: Mapping[str, Any]) -> str:
    """Say when a row was measured and at which commit, and whether its code has changed since."""
    said = ", ".join(part for part in (row["date"], row["commit"]) if part)
    return f"{said}; **older than the code**" if _is_old(row) else said


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = tuple("---:" if name in RIGHT else "---" for name in head)
    every = [head, rule, *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in every)


def _summary_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    worst = min(rows, key=_share_of_goal)
    met = sum(bool(row["met"]) for row in rows)
    _, work, peer, ours, _, ratio, goal, verdict, measured, _ = _cells(worst)
    reached = ratio if goal.startswith(">=") else ours
    return (worst["id"], work, peer, reached, goal, verdict, measured, f"{met} of {len(rows)}")


def _share_of_goal(row: Mapping[str, Any]) -> float:
    """Say how much of its goal a row reaches: 1 is just met. Goals read ">= 6x" or "<= 0.3 CPU s"."""
    order, figure, *_ = row["goal"].removesuffix("x").split()
    if order == ">=":
        return float(row["ratio"]) / float(figure)
    return float(figure) / float(row[f"ours_{row['unit'].lower().replace(' ', '_')}"])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    unit = row["unit"].lower().replace(" ", "_")
    ours, peer = (_figure(row[f"{side}_{unit}"], row["unit"]) for side in ("ours", "peer"))
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3g}x"
    verdict = VERDICTS[row["met"]]
    return (
        row["id"],
        row["work"],
        row["peer"],
        ours,
        peer,
        ratio,
        row["goal"] or "–",
        verdict,
        _measured(row),
        row["notes"],
    )


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.3g} ms" if unit == "s" and value < 0.1 else f"{value:.3g} {unit}"
