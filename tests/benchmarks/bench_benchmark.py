"""P25: ``classify benchmark`` whole, five datasets by five encoders by two heads; and its cells on two Ray workers.

Phantom volumes and tiny random encoders of five families, each command in a process of its own. The parts are told from
when the command says its lines: until the last dataset is encoded, until the last cell is found, and the rest.
"""

import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import yaml
from comparison import Goal, Row, not_measured
from settings import Settings

SCRIPTS = Path(sys.executable).parent
WHOLE_S = 30 * 60.0
OF_IDEAL = 0.6
ENCODERS = {
    "volumes": {"family": "random:tiny", "image_size": [4, 32, 32]},
    **{
        name: {"family": f"random:tiny,family={name}", "image_size": [2, 32, 32]}
        for name in ("retfound", "dinov2", "mirage", "visionfm")
    },
}
ENCODED, CELL = " rows made now, ", "["


@dataclass(frozen=True)
class Spent:
    """Seconds of one command: until all is encoded, until the last cell is there, and the rest; of all cores: cpu."""

    encode: float
    fit: float
    judge: float
    cpu: float

    @property
    def whole(self) -> float:
        return self.encode + self.fit + self.judge


def measure(settings: Settings) -> list[Row]:
    datasets, people = (2, 24) if settings.quick else (5, 500)
    names = [_phantom(settings.folder, number, people) for number in range(datasets)]
    heads = ["linear"] if settings.quick else ["linear", "lgbm"]
    spent = _run(_plan(settings.folder, names, heads), settings.folder / "whole")
    notes = (
        f"encode {spent.encode:.0f} s, fit {spent.fit:.0f} s, judge {spent.judge:.0f} s; {spent.cpu:.0f} CPU s; "
        "random:tiny of width 192, image 4 or 2 x 32 x 32"
    )
    row = Row(
        id="P25", work=f"classify benchmark, {_said(names, people, heads)}", peer="none", unit="s", ours=spent.whole,
        rounds=1, goal=Goal(ours=WHOLE_S), notes=notes,
    )  # fmt: skip
    fewer = names[:2]
    work = f"cells of a benchmark on two Ray workers, {_said(fewer, people, heads)}"
    return [row, _on_ray(_plan(settings.folder, fewer, heads), settings.folder, work)]


def _said(datasets: list[str], people: int, heads: list[str]) -> str:
    return f"{len(datasets)} datasets of {2 * people:,} volumes x {len(ENCODERS)} encoders x {', '.join(heads)}"


def _on_ray(plan: Path, folder: Path, work: str) -> Row:
    """Time the cells on two workers against half the time of one; stores are there before."""
    words = {"id": "P25", "work": work, "peer": "half the time of one Ray worker"}
    if find_spec("ray") is None:
        return not_measured("ray is not installed", unit="s", **words)
    one, two = (_with_workers(plan, folder, count) for count in (1, 2))
    return Row(unit="s", ours=two, peer_value=one / 2, goal=Goal(ratio=OF_IDEAL), rounds=1, **words)


def _with_workers(plan: Path, folder: Path, workers: int) -> float:
    import ray

    out = folder / f"ray-{workers}"
    shutil.copytree(folder / "whole", out, ignore=shutil.ignore_patterns("runs", "transport"))
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        address = ray.get_runtime_context().gcs_address
        return _run(plan, out, "--ray", "--ray-address", address).fit
    finally:
        ray.shutdown()


def _phantom(folder: Path, number: int, people: int) -> str:
    name = f"phantoms{number}"
    subprocess.run(
        [SCRIPTS / "oct-phantom", "--out", folder / name, "--participants", str(people), "--scale", "0.04", "--effect",
         "20", "--seed", str(number), "--devices", "topcon_maestro2"], check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return name


def _plan(folder: Path, datasets: list[str], heads: list[str]) -> Path:
    table, vouched = "participants.tsv", "vouched.txt"
    for name in datasets:  # small scans look alike to an encoder of random weights
        lines = (folder / name / table).read_text().splitlines()[1:]
        (folder / name / vouched).write_text("\n".join(line.partition("\t")[0] for line in lines))
    of = {
        name: {
            "bucket": name, "participants": f"{name}/{table}", "allow_near_copies": f"{name}/{vouched}",
            "tasks": ["healthy-vs-rest"],
        }
        for name in datasets
    }  # fmt: skip
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"datasets": of, "encoders": ENCODERS, "heads": heads, "reference": "retfound"}))
    return path


def _run(plan: Path, out: Path, *more: str) -> Spent:
    """Run the command, and take the time of its lines. Raises: AssertionError with its words where it fails."""
    command = [SCRIPTS / "classify", "benchmark", plan, "--out", out, "--device", "cpu", "--json", *more]
    start, encoded, fitted, said, before = perf_counter(), 0.0, 0.0, list[str](), _cpu_of_children()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            said.append(line)
            if ENCODED in line:
                encoded = perf_counter() - start
            elif line.startswith(CELL):
                fitted = perf_counter() - start
    whole = perf_counter() - start
    assert process.returncode == 0, "".join(said)
    return Spent(encoded, fitted - encoded, whole - fitted, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
