"""Which code a benchmark measures, as a digest: a row whose code has another one since is older than the code."""

import ast
import hashlib
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("embeddings_store", "extract", "classify", "finetune", "reports")
COMMANDS = {
    "bench_benchmark": ("extract.phantom.cli", "reports.classify_command"),
    "bench_cached_probe": ("extract.cli", "extract.phantom.cli", "classify.cli"),
    "bench_extraction_growth": ("extract.cli",),
    "bench_report": ("classify.cli", "reports.cli"),
    "bench_start": ("extract.cli", "extract.phantom.cli", "classify.cli", "reports.cli"),
}
"""Command lines that a benchmark starts in a process of its own, where no import shows them."""


def sources_digest(bench: str, root: Path = ROOT) -> str:
    """Digest the benchmark and every module of the house that it imports, at whatever depth: 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(_sources(bench, root)):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def current_commit() -> str:
    """Name the commit that is checked out, and whether files differ from it, results aside; "" outside of one."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit} with changes" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _sources(bench: str, root: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [root / "tests" / "benchmarks" / f"{bench}.py"]
    waiting += [path for module in COMMANDS.get(bench, ()) for path in _files(module, root)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for module in _imported(path) for file in _files(module, root)]
    return found


def _imported(path: Path) -> tuple[str, ...]:
    """Name all that a file imports, anywhere in it; of "from a import b" both a and a.b, whichever is a module."""
    return _imports(path.read_bytes())


@cache
def _imports(source: bytes) -> tuple[str, ...]:
    return tuple(_each_import(source))


def _each_import(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(module: str, root: Path) -> list[Path]:
    """Give the file of a module of the house, or of another benchmark; packages bring their __init__."""
    parts = module.split(".")
    if parts[0].startswith("bench_"):
        places = [root / "tests" / "benchmarks" / f"{parts[0]}.py"]
    elif parts[0] in PACKAGES:
        places = [root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")]
    else:
        places = []
    return [place for place in places if place.is_file()]
