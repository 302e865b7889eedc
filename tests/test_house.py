"""The house keeps its shape: five packages and a public one, short files, short functions, telling names."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("octprobe", "embeddings_store", "extract", "classify", "finetune", "reports")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base"}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def long_functions(source: str) -> list[str]:
    """Name the functions of more than MAX_FUNCTION_LINES lines."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES]


def faults(path: Path) -> list[str]:
    """Say what keeps a module from being short and telling."""
    source = path.read_text()
    found = long_functions(source)
    if (lines := len(source.splitlines())) > MAX_FILE_LINES:
        found.append(f"{lines} lines")
    if named := FORBIDDEN_NAMES & {path.stem, path.parent.name}:
        found.append(f"named {', '.join(named)}")
    return [f"{path.relative_to(ROOT)}: {one}" for one in found]


def test_modules_are_short_and_telling() -> None:
    assert [fault for path in MODULES for fault in faults(path)] == []


def test_the_house_has_five_packages_and_a_face() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES)


def test_a_long_function_would_be_found() -> None:
    body = "\n".join(["def f():"] + ["    x = 1"] * MAX_FUNCTION_LINES)
    assert long_functions(body) == ["f: 61 lines"]


def test_the_heavy_tests_are_there() -> None:
    listed = (ROOT / "tests" / "heavy.txt").read_text().split()
    assert listed == sorted(listed)
    assert [name for name in listed if not (ROOT / "tests" / name).exists()] == []
