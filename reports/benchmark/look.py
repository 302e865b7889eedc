"""What of a plan can be: datasets listed, encoders opened, before hours are spent; and what cannot, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import time_ns
from typing import Any

from classify.cohort.tasks import FILE_SUFFIXES
from embeddings_store.command_line import parse_words, several
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.space import EmbeddingSpace
from extract.all_slices import with_frames_of_bucket
from extract.dry_run import space_of
from extract.encoder.encoder import Encoder
from extract.encoder.family import Family
from extract.encoder.open import open_encoder
from extract.encoder_options import EncoderChoice, parse_slices
from extract.layouts.datasets import dataset_names, load_datasets
from extract.options import ExtractOptions, Output
from extract.selection import Selection, select_volumes
from extract.targets import require_volumes
from reports.benchmark.plan import TABLES, DatasetPlan, Plan, Variant, require_known

STORES = "stores"
DIGITS = 8


@dataclass(frozen=True)
class Gap:
    """A cell that cannot be, and why. task, head "": all of them."""

    dataset: str
    variant: str
    reason: str
    task: str = ""
    head: str = ""


@dataclass(frozen=True)
class Seen:
    """A variant that can read a dataset: its store, the space of it, and the family."""

    variant: Variant
    store: str
    space: EmbeddingSpace
    kind: Family


@dataclass(frozen=True)
class Looked:
    """A dataset that was listed. options: of one pass for all that is seen, which is nothing where none can read it."""

    dataset: DatasetPlan
    selection: Selection
    options: ExtractOptions
    seen: tuple[Seen, ...]

    @property
    def volumes(self) -> int:
        """How many volumes there are."""
        return len(self.selection.refs)


def look_at(
    plan: Plan, out: Path, *, accepted: Sequence[str], device: str, tell: Callable[[str], None]
) -> tuple[list[Looked], list[Gap]]:
    """List every dataset, open every encoder for it, and say what cannot be.

    accepted: families or encoders whose licence the user has accepted.
    Raises: BucketError, UsageError for a dataset that cannot be listed, naming it.
    """
    listed = [_list_volumes(plan, dataset, out, device) for dataset in plan.datasets]
    for one in listed:
        tell(f"{one.dataset.name}: {one.volumes:,} volumes ({one.selection.catalogue.listing.layout})")
    gaps, seen = list[Gap](), [list[tuple[Output, Seen]]() for _ in listed]
    for variant in plan.variants:  # outside, so that one encoder is in memory at a time
        open_once = cache(open_encoder)
        for one, found in zip(listed, seen, strict=True):
            try:
                found.append(_see(one, variant, accepted, open_once))
            except OctProbeError as error:
                gaps.append(Gap(one.dataset.name, variant.name, str(error)))
                tell(f"{one.dataset.name}, {variant.name}: absent: {error}")
    return [_together(one, found) for one, found in zip(listed, seen, strict=True)], gaps


def _list_volumes(plan: Plan, dataset: DatasetPlan, out: Path, device: str) -> Looked:
    folder = out / STORES / f"{dataset.name}-{digest_of(dataset.scans)}"
    words = {"device": device, "tokens": "none", **plan.encoded, **dataset.scans}
    try:
        options = parse_words(ExtractOptions, store=str(folder), encoder="random:tiny", **words)
        _require_tables(dataset)
        selection = select_volumes(options, now_ns=time_ns())
        if not selection.refs:
            raise UsageError("no volume is left to encode; check where and limit of this dataset in the plan")
        _require_tasks(dataset, selection.catalogue.listing.layout)
    except OctProbeError as error:
        raise type(error)(f"dataset {dataset.name}: {error}") from error
    return Looked(dataset, selection, options, ())


def _require_tables(dataset: DatasetPlan) -> None:
    """Raises: UsageError for a table of labels or people that is not there."""
    for name in TABLES:
        place = dataset.asked.get(name)
        if place is not None and "://" not in place and not Path(place).is_file():
            raise UsageError(f"{name}: expected a table, and there is no file {place}")


def _require_tasks(dataset: DatasetPlan, layout: str) -> None:
    """Raises: UsageError for a task that is neither of AI-READI nor a file, and that the dataset has not."""
    if "labels" in dataset.asked or "participants" in dataset.asked:
        return
    known = {task.name for task in load_datasets()[layout].tasks} if layout in dataset_names() else set()
    asked = [word for word in dataset.tasks.values() if word is not None and not word.endswith(FILE_SUFFIXES)]
    if not known:
        raise UsageError(
            f"labels or participants: expected a table with the labels of its tasks, since its layout {layout} has none"
        )
    both = [*sorted(known), *(f"{layout}/{name}" for name in sorted(known))]
    require_known(asked, both, f"tasks of {layout}")


def _see(
    looked: Looked, variant: Variant, accepted: Sequence[str], open_once: Callable[..., Encoder]
) -> tuple[Output, Seen]:
    """Open an encoder as extraction would, and name the store of what it makes. Raises: what extraction raises."""
    choice = parse_words(EncoderChoice, encoder=variant.family, checkpoint=variant.checkpoint, **variant.reading)
    if choice.checkpoint is not None and not choice.checkpoint.exists():
        raise UsageError(f"{choice.checkpoint.name}: the file of its weights is not there")
    folder = several(looked.options.store)[0]
    output = Output(choice, folder, None if variant.slices is None else parse_slices(variant.slices))
    options = with_frames_of_bucket(replace(looked.options, given=(output,)), looked.selection).of(output)
    encoder = open_once(**choice.arguments(), slices=options.slice_count)
    _require_licence(variant, encoder, accepted)
    require_volumes([encoder], looked.selection.catalogue.listing)
    space = space_of(options, encoder)
    store = str(Path(folder) / f"{variant.name}-{space.id[:DIGITS]}")
    return replace(output, store=store), Seen(variant, store, space, encoder.architecture.kind)


def _together(looked: Looked, found: Sequence[tuple[Output, Seen]]) -> Looked:
    """Put all encoders of a dataset into one pass."""
    if not found:
        return looked
    given = tuple(output for output, _ in found)
    options = replace(looked.options, given=given, store=tuple(one.store for one in given))
    return replace(
        looked, options=with_frames_of_bucket(options, looked.selection), seen=tuple(seen for _, seen in found)
    )


def digest_of(words: Any) -> str:
    """Return a short digest of what tells one reading of a bucket from another; files by their content."""
    told = [(n, _content(v)) for n, v in sorted(words.items()) if n not in ("pseudonyms", "endpoint_url")]
    return sha256(repr(told).encode()).hexdigest()[:DIGITS]


def _content(value: Any) -> Any:
    path = Path(value) if isinstance(value, str) else None
    if path is None or "://" in str(value):
        return value
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.absolute() if path.is_dir() else value)


def _require_licence(variant: Variant, encoder: Encoder, accepted: Sequence[str]) -> None:
    """Raises: UsageError where a published encoder's terms are not free, and nobody has accepted them."""
    kind = encoder.architecture.kind
    if kind.card.licence is None or variant.checkpoint is None:
        return
    free = kind.card.commercial is True and not kind.card.gated
    if not free and not {variant.encoder, kind.name} & set(accepted):
        raise UsageError(
            f"the licence of {kind.name} is not accepted ({kind.card.describe_terms()}); read it, and add "
            f"--accept-licence {kind.name}"
        )
