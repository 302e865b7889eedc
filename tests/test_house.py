"""The house keeps its shape: five packages, short files, short functions, telling names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("embeddings_store", "extract", "classify", "finetune", "reports")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base"}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def long_functions(source: str) -> list[str]:
    """Name the functions of more than MAX_FUNCTION_LINES lines."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_and_telling(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert long_functions(source) == []
    assert FORBIDDEN_NAMES.isdisjoint({path.stem, path.parent.name})


def test_the_house_has_five_packages() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES)


def test_a_long_function_would_be_found() -> None:
    body = "\n".join(["def f():"] + ["    x = 1"] * MAX_FUNCTION_LINES)
    assert long_functions(body) == ["f: 61 lines"]
