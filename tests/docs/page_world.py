"""What lies in the folder in which a reader types the blocks of a page: a phantom bucket and what was made of it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from markdown_pages import ROOT, Block
from warm_scripts import PACKAGES

PARTICIPANTS = 40
BLOCK_LIMIT_S = 120


SURROUNDINGS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "COLUMNS": "100",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "PYTHONWARNINGS": "default",
}


@dataclass(frozen=True)
class World:
    """A prepared folder, where commands lie, and the address and keys of the S3 server of its ``s3`` folder."""

    folder: Path
    programs: Path
    endpoint_url: str
    access_key: str
    secret_key: str

    def environment(self, folder: Path, *, own_source: bool) -> dict[str, str]:
        """Give what the shell of a page sees; nothing of the user's own profile.

        own_source: the packages are those in the folder itself, which the page changes.
        """
        return SURROUNDINGS | {
            "PATH": ":".join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(folder if own_source else ROOT),
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    def lay_out(self, names: tuple[str, ...], folder: Path) -> None:
        """Put what a page starts with into its folder."""
        for name in names:
            if name == "source":
                for package in PACKAGES:
                    shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
            elif (self.folder / name).is_dir():
                shutil.copytree(self.folder / name, folder / name, copy_function=os.link)
            else:
                shutil.copy2(self.folder / name, folder / name)


def prepare(folder: Path, programs: Path) -> None:
    """Make everything that a page may start with; called once a session."""
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = Typed(folder, os.environ | SURROUNDINGS | {"PATH": path, "XDG_CACHE_HOME": str(folder / ".cache")})
    made = f"--participants {PARTICIPANTS} --scale 0.06 --effect 20 --seed 7 --measurements"
    run.shell(f"oct-phantom --out bucket {made} --devices topcon_maestro2,zeiss_cirrus")
    run.python(CHECKPOINT)
    run.shell("extract-embeddings --bucket bucket --checkpoint best.pt --store store")
    run.shell("cp bucket/participants.tsv participants.tsv")
    run.shell("cp bucket/clinical_data/measurement.csv measurement.csv")
    run.shell("classify probe --model linear --store store --participants participants.tsv --replicates 200")
    scan = sorted((folder / "bucket/retinal_oct/structural_oct").rglob("*.dcm"))[0]
    shutil.copy2(scan, folder / "scan.dcm")
    hide_layout(folder)
    (folder / "s3" / "embeddings").mkdir(parents=True)
    for copy in ("s3/eye-dataset/ai-readi/dataset", "demo/buckets/eye-dataset"):
        one_scanner = shutil.ignore_patterns("topcon_maestro2", "manifest.tsv")
        shutil.copytree(folder / "bucket", folder / copy, copy_function=os.link, ignore=one_scanner)


def hide_layout(folder: Path) -> None:
    """Make what a clinic has: files with names of no meaning, and two tables with codes of people."""
    (folder / "scans").mkdir()
    lines = ["file\tparticipant\teye\tdevice\tprotocol"]
    for at, path in enumerate(sorted((folder / "bucket").rglob("*_cirrus_mac_oct_*.dcm"))):
        person, eye = path.name.split("_")[0], path.name.split("_oct_")[1][0]
        os.link(path, folder / "scans" / f"export_{at:04d}.dcm")
        lines.append(f"export_{at:04d}.dcm\tP-{person}\t{eye}\tzeiss_cirrus\tcirrus_mac")
    (folder / "scans.tsv").write_text("\n".join(lines) + "\n")
    with (folder / "participants.tsv").open(newline="") as file:
        people = list(csv.DictReader(file, delimiter="\t"))
    own_sites = {"UW": "north", "UCSD": "east", "UAB": "south"}
    rows = [["participant", "eye", "diagnosis", "age", "site", "split"]]
    for one in people:
        ill = "normal" if one["study_group"] == "healthy" else "DME"
        site, split = own_sites[one["clinical_site"]], one["recommended_split"]
        rows += [[f"P-{one['participant_id']}", eye, ill, one["age"], site, split] for eye in "LR"]
    (folder / "labels.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


CHECKPOINT = """
import torch
from extract.encoder.random_init import random_encoder

made = random_encoder("random:tiny,seed=1", (16, 48, 96))
weights = {f"context_encoder.{name}": tensor.clone() for name, tensor in made.module.state_dict().items()}
config = {"image_size": list(made.architecture.image_size), "num_heads": made.architecture.heads}
torch.save({"epoch": 40, "step": 9000, "loss": 0.2, "config": config, "model_state_dict": weights}, "best.pt")
"""


@dataclass(frozen=True)
class Typed:
    """A shell in one folder."""

    folder: Path
    environment: dict[str, str]

    def block(self, block: Block) -> None:
        """Type one block, or write it where it is a file."""
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        else:
            {"sh": self.shell, "python": self.python, "diff": self.patch}[block.language](block.text)

    def shell(self, text: str) -> None:
        self._run(["bash", "-euo", "pipefail", "-c", text], text)

    def python(self, text: str) -> None:
        self._run(["python", "-c", text], text)

    def patch(self, text: str) -> None:
        (self.folder / "block.diff").write_text(text, encoding="utf-8")
        self._run(["git", "apply", "block.diff"], text)

    def _run(self, command: list[str], text: str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, timeout=BLOCK_LIMIT_S, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = json.dumps({"code": done.returncode})
        assert done.returncode == 0, f"{text}\n{said}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
