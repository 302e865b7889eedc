"""What a plan costs: a few volumes of each dataset through each encoder, alone and timed, on this machine."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embeddings_store.arrays import arrays_of
from embeddings_store.errors import UnreadableError
from embeddings_store.publish import published
from embeddings_store.reader import open_reader
from extract.options import Output
from extract.pipeline import extract
from reports.benchmark.look import Gap, Looked, Seen

SAMPLE = 4
"""Volumes, the first of the listing."""

SAMPLES = "samples"
VOLUMES = 1000


@dataclass(frozen=True)
class Sample:
    """Seconds a volume of reading (fetch, decode, preprocess) and of encoding; bytes fetched a volume; memory in MB.

    memory_of: device, or process: then it is the most that this process held until then, with all before it.
    """

    volumes: int
    read_s: float
    encode_s: float
    size_bytes: float
    memory_mb: float
    memory_of: str
    device: str


@dataclass(frozen=True, kw_only=True)
class VolumesLeft:
    """How many volumes of a dataset a store of an encoder lacks, and the bytes that they will take there."""

    dataset: str
    encoder: str
    volumes: int
    missing: int
    store_bytes: int


@dataclass(frozen=True, kw_only=True)
class NotTimed(VolumesLeft):
    """Why no time is known."""

    absent: str


@dataclass(frozen=True, kw_only=True)
class Cost(VolumesLeft):
    """What 1,000 volumes take by the sample, and bytes left to fetch. Other fields: see Sample.

    usd_per_1000: None where the plan gives no price of an hour.
    """

    seconds_per_1000: float
    memory_mb: float
    memory_of: str
    device: str
    read_s: float
    encode_s: float
    fetch_bytes: float
    usd_per_1000: float | None


CostLine = Cost | NotTimed


def sample_all(
    looked: Sequence[Looked], out: Path, tell: Callable[[str], None]
) -> dict[tuple[str, str], Sample | None]:
    """Give the sample of each dataset and variant, made now or kept from before; None where no volume came through."""
    found = {}
    for one in looked:
        for seen, output in zip(one.seen, one.options.outputs, strict=True):
            by = f"{one.options.device}-{one.options.batch_size or 0}"
            path = out / SAMPLES / f"{Path(seen.store).parent.name}-{Path(seen.store).name}-{by}.json"
            found[one.dataset.name, seen.variant.name] = _kept(path) or _measure(one, output, path, tell)
    return found


def _kept(path: Path) -> Sample | None:
    try:
        return Sample(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # it is measured again


def _measure(looked: Looked, output: Output, path: Path, tell: Callable[[str], None]) -> Sample | None:
    with tempfile.TemporaryDirectory() as folder:
        alone = replace(output, store=f"{folder}/store")
        options = replace(looked.options, given=(alone,), store=alone.store, limit=SAMPLE)
        account = extract(options)
    seconds, done = account["seconds"], account["committed"]
    if not done:
        tell(f"{looked.dataset.name}: none of the first {SAMPLE} volumes came through, so no time is known")
        return None
    device = account["peak_device_mb"]
    sample = Sample(
        done, sum(seconds[name] for name in ("fetch", "decode", "preprocess")) / done, seconds["encode"] / done,
        account["bytes"] / done, account["peak_rss_mb"] if device is None else device,
        "process" if device is None else "device", account["device"],
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with published(path, durable=False) as aside:
        aside.write_text(json.dumps(asdict(sample)))
    return sample


def cost_lines(
    looked: Sequence[Looked], samples: Mapping[tuple[str, str], Sample | None], usd_per_hour: float | None
) -> list[CostLine]:
    """Give one line a dataset and variant: what 1,000 volumes take, and what is still to do here."""
    return [
        _line(one, seen, samples.get((one.dataset.name, seen.variant.name)), usd_per_hour)
        for one in looked
        for seen in one.seen
    ]


def _line(looked: Looked, seen: Seen, sample: Sample | None, usd_per_hour: float | None) -> CostLine:
    missing = looked.volumes - rows_of(seen, looked)
    size = sum(array.row_bytes for array in arrays_of(seen.space).all)
    left = VolumesLeft(
        dataset=looked.dataset.name, encoder=seen.variant.name, volumes=looked.volumes, missing=missing,
        store_bytes=size * missing,
    )  # fmt: skip
    if sample is None:
        return NotTimed(**vars(left), absent="no volume of the sample came through")
    seconds = VOLUMES * (sample.read_s + sample.encode_s)
    return Cost(
        **vars(left), seconds_per_1000=seconds, memory_mb=sample.memory_mb, memory_of=sample.memory_of,
        device=sample.device, read_s=sample.read_s, encode_s=sample.encode_s, fetch_bytes=sample.size_bytes * missing,
        usd_per_1000=None if usd_per_hour is None else usd_per_hour * seconds / 3600,
    )  # fmt: skip


def rows_of(seen: Seen, looked: Looked) -> int:
    """Count the volumes that a store has a row or an error row of; 0 where there is no store yet."""
    if "://" not in seen.store and not Path(seen.store).exists():
        return 0
    try:
        reader = open_reader(seen.store, endpoint_url=looked.options.endpoint_url)
    except UnreadableError:
        return 0
    index, keys = reader.index(), {ref.key for ref in looked.selection.refs}
    done = set(index["row"][reader.committed()]) | {record.row for record in reader.quarantined()}
    return int((index["row"].isin(done) & index["key"].isin(keys)).sum())


def hours_of(lines: Sequence[CostLine]) -> float:
    """Return the hours that are left: each dataset is read once for all encoders, and each encoder computes."""
    total = 0.0
    for here in _timed(lines).values():
        total += max((line.read_s * line.missing for line in here), default=0.0)
        total += sum(line.encode_s * line.missing for line in here)
    return total / 3600


def _timed(lines: Sequence[CostLine]) -> dict[str, list[Cost]]:
    """Give the lines whose times are known, by dataset."""
    names = dict.fromkeys(line.dataset for line in lines)
    return {name: [line for line in lines if line.dataset == name and isinstance(line, Cost)] for name in names}


def describe_dry_run(lines: Sequence[CostLine], cells: int, known: int, gaps: Sequence[Gap]) -> str:
    """Put what a run would do into lines for a person."""
    said = [
        f"{line.dataset}, {line.encoder}: {line.missing:,} of {line.volumes:,} volumes to encode"
        + (f", {line.encode_s:.3g} s each on {line.device}" if isinstance(line, Cost) else f"; {line.absent}")
        for line in lines
    ]
    fetched = sum(max((line.fetch_bytes for line in here), default=0.0) for here in _timed(lines).values())
    stored = sum(line.store_bytes for line in lines)
    said += [f"absent: {gap.dataset}, {gap.variant}: {gap.reason}" for gap in gaps]
    return "\n".join(
        [
            *said,
            f"cells: {cells:,}; runs that lie there already, of this plan or an earlier one: {known:,}",
            (
                f"{hours_of(lines):.2f} hours of encoding, one volume after the other, by the first {SAMPLE} volumes "
                f"of each dataset; {fetched / 1e9:.2f} GB to fetch, {stored / 1e9:.3f} GB to store; fitting heads "
                "comes on top"
            ),
            "dry run: no store and no run was written",
        ]
    )
