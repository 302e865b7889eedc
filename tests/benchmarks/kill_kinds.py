"""The commands that kill_commands.py kills: what each needs, and its lines, which start together."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Line = tuple[str, ...]
ENCODER = ("--encoder", "random:tiny", "--image-size", "8,48,48")
PEOPLE = ("--participants", "bucket/participants.tsv", "--task", "healthy-vs-rest", "--seed", "3", "--replicates", "50")
SNAPSHOT = ("extract-embeddings", "snapshot", "--store", "store")
PROBE = ("classify", "probe", "--store", "store", "--runs", "runs", *PEOPLE)
EXTRACT = ("extract-embeddings", "--bucket", "bucket", "--store", "store", *ENCODER)
ON_S3 = ("extract-embeddings", "--bucket", "eye", "--store", "s3://kills/{trial}/store", *ENCODER)
PHANTOM = ("oct-phantom", "--out", "bucket", "--participants", "18", "--scale", "0.05", "--effect", "12",
           "--devices", "zeiss_cirrus", "--break", "truncated-native,no-pixeldata", "--seed", "5")  # fmt: skip
TRAIN = ("finetune", "--bucket", "bucket", "--runs", "runs", *PEOPLE, *ENCODER, "--device", "cpu", "--stages",
         "head,last", "--epochs", "2", "--set", "batch_size=8")  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A command to kill. again: a rerun after the end makes one more run; share: of the kills, how many it gets."""

    name: str
    lines: tuple[Line, ...]
    needs: str = "bucket"
    again: bool = False
    share: int = 1
    s3: bool = False


def ranks(line: Line, count: int = 3) -> tuple[Line, ...]:
    """Give a line for each of several processes that share the work."""
    return tuple((*line, "--rank", str(number), "--ranks", str(count)) for number in range(count))


KINDS = (
    Kind("extract, 1 rank, local", (EXTRACT,), share=2),
    Kind("extract, 3 ranks, local", ranks(EXTRACT), share=2),
    Kind("extract, 1 rank, S3", (ON_S3,), share=2, s3=True),
    Kind("extract, 3 ranks, S3", ranks(ON_S3), share=2, s3=True),
    Kind("snapshot", (SNAPSHOT,), "store"),
    Kind("pool", (("extract-embeddings", "pool", "--store", "store", "--pool", "median,min"),), "store"),
    Kind("pack", (("extract-embeddings", "pack", "--store", "store"),), "store"),
    Kind("retry", (("extract-embeddings", "retry", "--store", "store", "--classes", "all"),), "store"),
    Kind("verify --repair", (("extract-embeddings", "verify", "--store", "store", "--repair"),), "damaged"),
    Kind("probe with search", ((*PROBE, "--model", "lgbm", "--trials", "4", "--jobs", "2"),), "snapshot", again=True,
         share=2),
    Kind("compare", (("classify", "compare", "--store", "a=store", "--models", "dummy,linear", "--tasks",
                      "healthy-vs-rest", "--participants", "bucket/participants.tsv", "--runs", "runs", "--replicates",
                      "50"),), "snapshot"),
    Kind("finetune", (TRAIN,), again=True, share=2),
    Kind("study", (("reports", "study", "--store", "store", "--runs", "runs", "--out", "out"),), "runs"),
    Kind("case", (("reports", "case", "--store", "store", "--runs", "runs", "--out", "out", "--bucket", "bucket",
                   "--export"),), "runs"),
    Kind("track", (("reports", "track", "--runs", "runs", "--tracking-uri", "sqlite:///mlflow.db"),), "runs"),
)  # fmt: skip


def prepare(base: Path, needs: set[str], run: Callable[[Line, Path], object]) -> None:
    """Make, below ``base``, a folder for each state that a command may need; run: to its end."""
    for name, before, lines in (
        ("bucket", None, [PHANTOM]),
        ("store", "bucket", [EXTRACT]),
        ("damaged", "store", []),
        ("snapshot", "store", [SNAPSHOT]),
        ("runs", "snapshot", [(*PROBE, "--model", "dummy"), (*PROBE, "--model", "linear")]),
    ):
        if not needs & _after(name):
            continue
        folder = copy_state(base, before, base / name)
        for line in lines:
            run(line, folder)
        if name == "damaged":
            damage(folder / "store")


def _after(name: str) -> set[str]:
    """Name the states that are made of one, and itself."""
    later = {"bucket": ("store",), "store": ("snapshot", "damaged"), "snapshot": ("runs",)}.get(name, ())
    return {name}.union(*map(_after, later))


def copy_state(base: Path, state: str | None, to: Path) -> Path:
    """Copy a prepared folder, the bucket as a link."""
    to.mkdir(parents=True)
    if state is None:
        return to
    for one in (base / state).iterdir():
        if one.name == "bucket":
            (to / "bucket").symlink_to((base / "bucket" / "bucket").resolve())
        elif one.is_dir():
            shutil.copytree(one, to / one.name)
        else:
            shutil.copy2(one, to / one.name)
    return to


def damage(store: Path) -> None:
    """Turn one byte over in the pooled vectors of one row."""
    path = sorted(path for path in (store / "pooled").rglob("c*") if path.is_file())[3]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def chosen(names: Sequence[str]) -> list[Kind]:
    """Give the kinds whose names hold one of these words; all where none is given."""
    return [kind for kind in KINDS if not names or any(name in kind.name for name in names)]
