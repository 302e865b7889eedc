"""make bench: every benchmark in a process of its own, ours and its peer in turn; a table and a result file."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from result_file import PACKAGES, RESULTS, changed_versions, machine_name, make_record, read_record, write_record
from result_table import describe_run, markdown_table, replace_block, summary_table
from settings import Settings, pinned_environment

from embeddings_store.terminal.provenance import package_versions

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "performance.md"
BENCHMARKS = {
    "p1": "bench_encoder",
    "p2": "bench_input",
    "p3": "bench_extraction",
    "p4": "bench_store",
    "growth": "bench_growth",
    "p13": "bench_extraction_growth",
    "p5": "bench_linear_probe",
    "p6": "bench_lightgbm",
    "p7": "bench_shap",
    "p8": "bench_bootstrap",
    "p9": "bench_start",
    "p10": "bench_cached_probe",
    "p14": "bench_finetune",
    "report": "bench_report",
    "partial": "bench_partial",
    "p17": "bench_slow_line",
    "p21": "bench_device_feed",
    "p24": "bench_augment",
    "p25": "bench_benchmark",
}


def main(arguments: Sequence[str]) -> int:
    """Run the chosen benchmarks; 1 where one of them failed or disagreed with its peer."""
    options = _parse(arguments)
    if options.draw:
        _draw(read_record(_result_path(options)))
        return 0
    rows: list[dict[str, Any]] = []
    failed = []
    for name in options.only:
        print(f"{name}: {BENCHMARKS[name]} ...", file=sys.stderr, flush=True)
        measured = run_benchmark(BENCHMARKS[name], threads=options.threads, quick=options.quick, full=options.full)
        rows += measured or []
        failed += [name] if measured is None else []
    _publish(rows, options)
    if failed:
        print(f"failed, and therefore in no table: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_benchmark(module: str, *, threads: int, quick: bool, full: bool) -> list[dict[str, Any]] | None:
    """Run one bench module with pinned threads; None when it failed (its own words are on stderr)."""
    with tempfile.TemporaryDirectory(prefix="octprobe-bench-") as scratch:
        settings = Settings(scratch=scratch, threads=threads, quick=quick, full=full)
        out = Path(scratch) / "rows.json"
        command = [sys.executable, str(HERE / "one_benchmark.py"), module, json.dumps(settings.to_dict()), str(out)]
        done = subprocess.run(command, env=pinned_environment(threads), check=False)
        if done.returncode:
            return None
        rows: list[dict[str, Any]] = json.loads(out.read_text())
    return rows


def _publish(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print what was measured now; store it unless sizes were cut down by --quick."""
    if not rows:
        return
    path = _result_path(options)
    earlier = None if options.quick else read_record(path)
    if earlier and (changed := changed_versions(earlier["versions"], package_versions(PACKAGES))):
        print(f"{len(earlier['rows'])} earlier rows were of another {', '.join(changed)}: dropped", file=sys.stderr)
    record = make_record(rows, earlier, today=date.today(), cores=os.cpu_count() or 1)
    measured = [row for row in record["rows"] if row["bench"] in {new["bench"] for new in rows}]
    print(f"{markdown_table(measured)}\n\n{describe_run({**record, 'rows': measured})}")
    if options.quick:
        return
    write_record(path, record)
    if options.write_readme:
        _draw(record)


def _draw(record: dict[str, Any] | None) -> None:
    """Renew the tables of docs/performance.md from what is stored."""
    if record is None:
        raise SystemExit(f"nothing is stored for {machine_name()}: measure first")
    whole = replace_block(PAGE.read_text(), f"{describe_run(record)}\n\n{markdown_table(record['rows'])}")
    PAGE.write_text(replace_block(whole, summary_table(record["rows"]), "worst"))


def _result_path(options: argparse.Namespace) -> Path:
    path: Path = options.results / f"{machine_name()}.json"
    return path


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--only", type=_names, default=tuple(BENCHMARKS), help="p1,p2: these only")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round; nothing is stored")
    parser.add_argument("--full", action="store_true", help="full sizes where the default is cut down: minutes a row")
    parser.add_argument("--threads", type=int, default=1, help="of numerical libraries, on both sides")
    parser.add_argument("--write-readme", action="store_true", help="renew the tables of docs/performance.md")
    parser.add_argument("--draw", action="store_true", help="measure nothing: renew the tables from what is stored")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where <machine>.json goes")
    options = parser.parse_args(arguments)
    if options.quick and (options.full or options.write_readme):
        parser.error("--quick is for trying a benchmark: it goes neither with --full nor with --write-readme")
    return options


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.lower().split(","))
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; expected some of {','.join(BENCHMARKS)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
