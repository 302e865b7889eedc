"""Stored rows as a Markdown table, and its place in the README."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

VERDICTS = {True: "met", False: "**not met**", None: "–"}
HEAD = ("", "work", "peer", "ours", "peer's", "ratio", "goal", "", "notes")
BLOCK = re.compile(r"<!-- bench -->.*?<!-- /?bench -->", re.DOTALL)


def markdown_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Draw rows as they are stored; a ratio above 1 means that ours is faster or smaller."""
    lines = [HEAD, tuple("---:" if name in ("ours", "peer's", "ratio") else "---" for name in HEAD)]
    lines += [_cells(row) for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def replace_block(readme: str, block: str) -> str:
    """Put the table between the markers. Raises: ValueError where there are none."""
    if not BLOCK.search(readme):
        raise ValueError("README.md: expected a line <!-- bench --> and, after it, a line <!-- /bench -->, found none")
    return BLOCK.sub(lambda _: f"<!-- bench -->\n{block}\n<!-- /bench -->", readme, count=1)


def describe_run(record: Mapping[str, Any]) -> str:
    """Say in one sentence when and where the table was measured."""
    loads = [row["load_average"]["before"] for row in record["rows"]]
    busy = f" **Provisional: the machine was busy (load average up to {max(loads)}).**" if record["provisional"] else ""
    versions = record["versions"]
    return (
        f"Measured on {record['date']}, {record['machine']}: Python {versions['python']}, "
        f"torch {versions.get('torch', 'none')}, NumPy {versions.get('numpy', 'none')}. "
        f"A ratio above 1 means that ours is faster or smaller. All data is phantom or random.{busy}"
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    unit = row["unit"].lower().replace(" ", "_")
    ours, peer = (_figure(row[f"{side}_{unit}"], row["unit"]) for side in ("ours", "peer"))
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3g}x"
    verdict = VERDICTS[row["met"]]
    return (row["id"], row["work"], row["peer"], ours, peer, ratio, row["goal"] or "–", verdict, row["notes"])


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.3g} ms" if unit == "s" and value < 0.1 else f"{value:.3g} {unit}"
