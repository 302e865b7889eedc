"""The base install alone extracts, shows and probes; what needs more names the extra in one line."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from embeddings_store.extras import EXTRA_OF

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

BLOCKED = """
import sys

extras = EXTRAS

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())

def type_in(line):
    from importlib.metadata import entry_points
    sys.argv = line.split()
    (script,) = [one for one in entry_points(group="console_scripts") if one.name == sys.argv[0]]
    try:
        script.load()()
    except SystemExit as left:
        print(f"{sys.argv[:2]} left with {left.code}", file=sys.stderr)
        return left.code

if __name__ == "__main__":
    import octprobe
    for name in octprobe.__all__:
        assert getattr(octprobe, name), name
    tiny = "--encoder random:tiny --image-size 8,32,32 --device cpu"
    assert type_in("extract-embeddings --bucket bucket --store base " + tiny) == 0
    assert type_in("extract-embeddings status --store base") == 0
    table = "--participants participants.tsv --replicates 20 --runs r"
    assert type_in("classify probe --model linear --store base " + table) == 0
    for line in (
        "reports study --store base --runs r --out out",
        "extract-embeddings preview scan.dcm --out scan.png",
        "extract-embeddings --bucket bucket --store onnx --encoder onnx:x.onnx",
        "extract-embeddings --bucket bucket --store ray --encoder random:tiny --engine ray",
        "reports track --runs r --to wandb",
        "reports track --runs r --to mlflow",
    ):
        assert type_in(line) == 2, line
    extras -= {"jinja2"}  # which the base has, for torch brings it
    assert type_in("reports case --runs r --store base --out out --export") == 2
    extras &= {"wandb", "mlflow"}
    assert type_in("finetune --bucket bucket --participants participants.tsv --track mlflow " + tiny) == 2
"""
MISSING = ("jinja2", "matplotlib", "onnx", "ray", "wandb", "mlflow", "highdicom", "mlflow")


def test_the_base_alone_extracts_shows_and_probes(clinic: Path) -> None:
    packages = {name for name, extra in EXTRA_OF.items() if extra != "tpu"} | {"shap", "transformers"}
    script = BLOCKED.replace("EXTRAS", repr(packages))
    done = subprocess.run([sys.executable, "-c", script], cwd=clinic, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "96 volumes, 96 committed" in done.stdout
    assert re.search(r"^run: \S+/r/\S+-linear-", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    wanted = [f"{name} is not installed: pip install 'octprobe[{EXTRA_OF[name]}]'" for name in MISSING]
    assert len(errors) == len(wanted), errors
    for line, words in zip(errors, wanted, strict=True):
        assert line.endswith(words), line
    assert not {"onnx", "ray", "scan.png", "out"} & {path.name for path in clinic.iterdir()}


def names(requirements: list[str]) -> set[str]:
    return {one.partition("[")[0].partition(">")[0].partition("=")[0].replace("-", "_") for one in requirements}


@pytest.mark.parametrize("package", EXTRA_OF)
def test_each_message_names_an_extra_that_brings_the_package(package: str) -> None:
    extras = PROJECT["optional-dependencies"]
    assert package in names(extras[EXTRA_OF[package]])
    assert package not in names(PROJECT["dependencies"])
    everything = extras["all"][0]
    assert EXTRA_OF[package] == "tpu" or EXTRA_OF[package] in everything.partition("[")[2].strip("]").split(",")
