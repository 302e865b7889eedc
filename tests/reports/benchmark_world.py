"""Two phantom buckets and a plan of two tiny random encoders: a benchmark that ends in seconds."""

from pathlib import Path
from typing import Any

from classify.run.typed_record import as_json
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from reports.benchmark.options import BenchmarkOptions
from reports.benchmark.run import benchmark

PLAN = """
datasets:
  here: {bucket: here, participants: here/participants.tsv, tasks: [healthy-vs-rest], cross_validate: 2}
  there: {bucket: there, participants: there/participants.tsv, tasks: [healthy-vs-rest]}
encoders:
  volumes: {family: "random:tiny", image_size: [4, 32, 32]}
  dinov2: {family: "random:tiny,family=dinov2", slices: [centre, 2]}
  nofile: {family: mirage, checkpoint: not_here.pth}
heads: [linear]
reference: volumes
replicates: 20
usd_per_hour: 2.0
same: {sick: [here/healthy-vs-rest, there/healthy-vs-rest]}
"""


def make_buckets(folder: Path, people: int = 40, names: tuple[str, ...] = ("here", "there")) -> None:
    """Write the buckets of the plan, and the plan."""
    for seed, name in enumerate(names, 1):
        plan = parse_plan(
            participants=people, devices=("topcon_maestro2",), protocols=(), scale=0.04, syntax="explicit",
            effect_um=20.0, effect_sector=None, confound=None, schema="v2", manifest=True, breaks=(), kinds=(),
            seed=seed, measurements=False,
        )  # fmt: skip
        generate(plan, folder / name, 1, lambda: None)
    (folder / "plan.yaml").write_text(PLAN)


def run_plan(folder: Path, said: list[str] | None = None, **given: Any) -> dict[str, Any]:
    """Do classify benchmark, and return its record as it lies in benchmark.json."""
    tell = (lambda _: None) if said is None else said.append
    return as_json(benchmark(BenchmarkOptions(plan=folder / "plan.yaml", device="cpu", **given), tell=tell).record)


def without_when(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out what tells one making from another: times, names of runs, and whether they were there."""
    kept = {name: value for name, value in record.items() if name not in ("created", "command", "cost")}
    kept["cells"] = [{k: v for k, v in cell.items() if k not in ("run", "reused")} for cell in record["cells"]]
    kept["boards"] = {
        name: board
        | {"lines": [{k: v for k, v in one.items() if k not in ("run", "seconds")} for one in board["lines"]]}
        for name, board in record["boards"].items()
    }
    return kept
