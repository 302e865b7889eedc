"""The wheel and the sdist are whole: console scripts work in a clean environment, far from the repository."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("octprobe", "embeddings_store", "extract", "classify", "finetune", "reports")

pytest.importorskip("build", reason="build is not installed (extra dev)")
pytest.importorskip("hatchling", reason="hatchling is not installed (extra dev)")


def resources() -> set[str]:
    """Everything in the packages that is no code, and every module."""
    found = (path for package in SOURCES for path in (ROOT / package).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def run(command: Sequence[object], folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | extra
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from the sdist; nothing is downloaded."""
    out = tmp_path_factory.mktemp("dist")
    # The back end may lie beside the environment; it is found by the name under which this process found it.
    beside = str(Path(sys.modules["hatchling"].__file__ or "").parent.parent)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], out, PYTHONPATH=beside)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel alone; dependencies are those of this one, by a path file."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder)
    programs = folder / "bin"
    (wheel,) = built.glob("*.whl")
    installs = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    run([*installs, "--quiet", "--no-deps", "--no-index", wheel], folder)
    site = Path(
        run(
            [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder
        ).stdout.strip()
    )
    # Added to the path as a plain folder: its own path files, and so the editable octprobe, are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_the_wheel_holds_packages_scripts_and_resources(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.startswith("octprobe-")}
    assert tops == set(SOURCES)
    assert resources() <= set(names)
    assert "octprobe/docs/troubleshooting.md" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".png"))]


def test_the_sdist_can_be_read_and_cited(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "docs/index.md", "docs/pipeline.svg"} <= names
    assert not [name for name in names if name.startswith((".venv", "demo", "tests/"))]


def test_console_scripts_work_far_from_the_repository(installed: Path, tmp_path: Path) -> None:
    for name in PROJECT["scripts"]:
        assert "Usage" in run([installed / name, "--help"], tmp_path, COLUMNS="200").stdout
    kept = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    commands = (
        "oct-phantom --out b --participants 2 --scale 0.1 --devices zeiss_cirrus",
        "extract-embeddings --bucket b --store s --encoder random:tiny",
        "extract-embeddings status --store s --json",
    )
    for name, *words in map(str.split, commands):
        done = run([installed / name, *words], tmp_path, **kept)
    assert '"committed": 4' in done.stdout
    where = "import extract, importlib.metadata as m; print(extract.__file__, m.version('octprobe'))"
    path, version = run([installed / "python", "-c", where], tmp_path).stdout.split()
    assert Path(path).is_relative_to(installed.parent)
    assert version == PROJECT["version"]


def test_the_page_that_errors_name_came_along(installed: Path) -> None:
    asked = [installed / "extract-embeddings", "status", "--store", "none"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(asked, env=clean, capture_output=True, text=True, check=False)
    place, _, anchor = done.stderr.splitlines()[-1].removeprefix("help: ").partition("#")
    assert Path(place).is_relative_to(installed.parent.resolve())
    assert f"`{anchor}`" in Path(place).read_text().lower()


def test_the_version_stands_in_one_place() -> None:
    said = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert said is not None
    assert said[1] == PROJECT["version"]
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    for package in SOURCES:
        assert not [path for path in (ROOT / package).rglob("*.py") if "__version__ =" in path.read_text()]
