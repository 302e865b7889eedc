"""What a benchmark leaves: one page, CSV, Markdown, LaTeX, and benchmark.json; written aside, the record last."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from classify.run.typed_record import as_json
from embeddings_store.errors import RunError
from embeddings_store.plain_text import for_spreadsheets, visible
from embeddings_store.publish import published
from reports.benchmark.claim import claim_of
from reports.benchmark.pictures import picture_ranks
from reports.benchmark.record import BenchmarkRecord
from reports.benchmark.tables import cell_text, flat_rows, make_tables
from reports.figures import PHANTOM_MARK
from reports.page import USE_ONLY, publish, render
from reports.validity import PlainTable

PAGE, RECORD = "benchmark.html", "benchmark.json"
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "<": "$<$"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def write_files(record: BenchmarkRecord, out: Path) -> Path:
    """Write everything, and return the page. Raises: RunError where the folder cannot be written."""
    tables = make_tables(record)
    every = [one for part in tables.values() for one in part]
    publish(render("benchmark.html.j2", _context(record, tables)), out / PAGE)
    try:
        with published(out / "benchmark.csv", durable=False) as aside:
            for_spreadsheets(pd.DataFrame(flat_rows(record))).to_csv(aside, index=False)
        _write(out / "benchmark.md", markdown(record, every))
        _write(out / "benchmark.tex", latex(record, every))
        _write(out / RECORD, json.dumps(as_json(record), indent=1, allow_nan=False))
    except OSError as error:
        raise RunError(
            f"--out {out}: expected a folder to write to, got: {error.strerror}; choose another --out"
        ) from error
    return out / PAGE


def _write(path: Path, text: str) -> None:
    with published(path, durable=False) as aside:
        aside.write_text(text, encoding="utf-8")


def _context(record: BenchmarkRecord, tables: Mapping[str, Sequence[PlainTable]]) -> dict[str, Any]:
    encoders = [one for one in record.sources if one.kind == "encoder"]
    return {
        "record": record,
        "tables": tables,
        "claim": claim_of(record),
        "pictures": [
            one for head, found in record.ranks.items() if (one := picture_ranks(head, found, record.phantom))
        ],
        "phantom": record.phantom,
        "untrained": _untrained(record),
        "resplits": (),
        "encoders": [f"{one.name}: {one.title}" for one in encoders],
        "date": record.created,
        "version": version("octprobe"),
    }


def _untrained(record: BenchmarkRecord) -> str:
    bare = [one.name for one in record.sources if one.untrained]
    said = "Random weights, or nearly so. Nothing here says what pretraining has learned. This holds for: "
    return f"{said}{', '.join(bare)}." if bare else ""


def warnings_of(record: BenchmarkRecord) -> list[str]:
    """Return what a reader of any number here must know; the page has banners for it."""
    phantom = f"{PHANTOM_MARK}: these scans were made by a computer." if record.phantom else ""
    return [one for one in (USE_ONLY, phantom, _untrained(record), *record.notes) if one]


def markdown(record: BenchmarkRecord, tables: Iterable[PlainTable]) -> str:
    """Write every table as Markdown, in the order of the page."""
    parts = [f"# Benchmark {record.plan.name}", *warnings_of(record), claim_of(record)]
    for table in tables:
        lines = [_row(table.columns), "| --- " * len(table.columns) + "|"]
        lines += [_row([cell_text(cell, signed=table.signed) for cell in row]) for row in table.rows]
        parts.append("\n\n".join([f"## {table.heading}", table.caption, "\n".join(lines)]))
    return visible("\n\n".join(parts)) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def latex(record: BenchmarkRecord, tables: Iterable[PlainTable]) -> str:
    r"""Write every table as LaTeX of the package booktabs; longtable breaks over pages."""
    parts = [f"% Benchmark {record.plan.name}, plan {record.plan.sha256[:12]}; needs booktabs, longtable"]
    parts += [rf"\noindent {escape(one)}" for one in warnings_of(record)]
    for table in tables:
        wide = "l" + "p{0.12\\textwidth}" * (len(table.columns) - 1)
        rows = [" & ".join(escape(cell_text(cell, signed=table.signed)) for cell in row) + r" \\" for row in table.rows]
        parts.append(
            "\n".join(
                [
                    rf"\begin{{longtable}}{{{wide}}}",
                    rf"\caption{{{escape(f'{table.heading}. {table.caption}')}}}\\",
                    r"\toprule", " & ".join(map(escape, table.columns)) + r" \\", r"\midrule", r"\endhead",
                    *rows, r"\bottomrule", r"\end{longtable}",
                ]
            )
        )  # fmt: skip
    return visible("\n\n".join(parts)) + "\n"


def escape(text: str) -> str:
    r"""Write text so that LaTeX shows it as it is.

    Example: escape("a_b & 5 %") == r"a\_b \& 5 \%".
    """
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found.group()], " ".join(text.split()))
