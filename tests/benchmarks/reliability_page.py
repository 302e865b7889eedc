"""docs/reliability.md: its tables are drawn from results/reliability.json, and a test holds them equal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kill_kinds import KINDS
from result_file import RESULTS
from result_table import replace_block

RESULT = RESULTS / "reliability.json"
PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
COUNTS = ("kills", "lost", "wrong", "duplicated", "leftovers", "processes_left")
HEAD = ("command", "signal", *(name.replace("_", " ") for name in COUNTS), "measured")


def markdown_kills(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a line for each command and signal, in the order of the commands, and the sum."""
    order = [kind.name for kind in KINDS]
    lines = [
        [row["command"], row["signal"], *map(str, (row[name] for name in COUNTS)), f"{row['date']}, {row['commit']}"]
        for row in sorted(rows, key=lambda row: order.index(row["command"]))
    ]
    total = ["all", "", *(str(sum(row[name] for row in rows)) for name in COUNTS), ""]
    rule = ["---", "---", *["---:"] * len(COUNTS), "---"]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEAD, rule, *lines, total))


def _growth_cell(row: Mapping[str, Any]) -> str:
    memory = "" if row["mb"] is None else f" {row['mb']:,} MB,"
    return f"{row['seconds']:.2f} s,{memory} {row['requests']:,} requests"


SHORTEST_S = 0.05
"""Below which a time says nothing of how it grows."""


def markdown_growth(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a line for each call, with its figures at each number of rows, and how time grows per row."""
    sizes = sorted({row["rows"] for row in rows})
    found = {(row["call"], row["rows"]): row for row in rows}
    head = ["call", *(f"{size:,} rows" for size in sizes), "time a row, last to first"]
    lines = [head, ["---", *["---:"] * (len(sizes) + 1)]]
    for call in dict.fromkeys(row["call"] for row in rows):
        own = [found.get((call, size)) for size in sizes]
        cells = [_growth_cell(row) if row else "not measured" for row in own]
        grown = ""
        if (first := own[0]) and (last := own[-1]) and first["seconds"] >= SHORTEST_S:
            grown = f"{last['seconds'] / last['rows'] / (first['seconds'] / first['rows']):.2f}x"
        lines.append([call, *cells, grown])
    lines.append(["inodes", *(f"{next(row['inodes'] for row in rows if row['rows'] == size):,}" for size in sizes), ""])
    measured, load = rows[0], max(row["load"] for row in rows)
    measured_when = f"Measured on {measured['date']} at {measured['commit']}, load average up to {load}."
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", measured_when])


def tables(record: Mapping[str, Any]) -> dict[str, str]:
    """Draw every table of the page that was measured, by the name of its markers."""
    made = {"kills": markdown_kills, "growth": markdown_growth}
    return {name: draw(record[name]) for name, draw in made.items() if name in record}


def draw_page() -> None:
    """Renew the tables of the page from what is stored."""
    page = PAGE.read_text()
    for name, block in tables(json.loads(RESULT.read_text())).items():
        page = replace_block(page, block, name)
    PAGE.write_text(page)


if __name__ == "__main__":
    draw_page()
