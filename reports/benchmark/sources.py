"""What a benchmark used: datasets and encoders with their licences and citations, and what a reader should know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from classify.cohort.splitting import say_shared
from classify.comparing.entries import CHOSEN_ON_VAL
from embeddings_store.encoder_source import EncoderSource, source_of_record
from extract.layouts.datasets import dataset_names, load_datasets
from extract.summary import store_accounts
from reports.benchmark.cells import Made
from reports.benchmark.look import Looked
from reports.benchmark.plan import FINE_TUNED, Plan
from reports.encoders import NO_TERMS

OWN = "as whoever shares it says"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What was used, by its name in the plan, with its terms as far as they are known."""

    name: str
    kind: Literal["dataset", "encoder"]
    title: str
    licence: str
    citation: str


@dataclass(frozen=True, kw_only=True)
class DatasetSource(Source):
    """A dataset, and how many volumes of it were listed."""

    volumes: int
    untrained: bool = False


@dataclass(frozen=True, kw_only=True)
class WeightsSource(Source):
    """An encoder. untrained: random weights, or nearly so."""

    weights_sha256: str | None
    untrained: bool


def describe_sources(looked: Sequence[Looked], made: Sequence[Made]) -> list[DatasetSource | WeightsSource]:
    """List every dataset and every encoder that has a cell."""
    found: list[DatasetSource | WeightsSource] = [_dataset(one) for one in looked]
    first = {_called(one): one.cell.run.record for one in reversed(made)}
    for name in dict.fromkeys(map(_called, made)):
        found.append(_encoder(name, source_of_record(first[name].asked.encoder_source)))
    return found


def _called(made: Made) -> str:
    """Name an encoder: the variant of the plan, and each fine-tuned run by itself, since each has its own beginning."""
    return made.name if made.variant == FINE_TUNED else made.variant


def _dataset(looked: Looked) -> DatasetSource:
    layout = looked.selection.catalogue.listing.layout
    card = load_datasets()[layout].card if layout in dataset_names() else None
    return DatasetSource(
        name=looked.dataset.name, kind="dataset", title=card.title if card else f"layout {layout}",
        licence=card.licence if card else OWN, citation=card.citation if card else OWN, volumes=looked.volumes,
    )  # fmt: skip


def _encoder(name: str, source: EncoderSource | None) -> WeightsSource:
    return WeightsSource(
        name=name, kind="encoder", title=f"{source.name} ({source.family})" if source else "not recorded",
        licence=(source.licence if source else None) or NO_TERMS,
        citation=(source.citation if source else None) or NO_TERMS,
        weights_sha256=source.weights_sha256 if source else None,
        untrained=bool(source and source.is_untrained),
    )  # fmt: skip


def count_failed(account: Mapping[str, Any]) -> int:
    """Return how many volumes of a dataset are error rows, in the store that has the most."""
    return max(int(sum(store["errors"].values())) for store in store_accounts(account))


def notes_of(plan: Plan, made: Sequence[Made], accounts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what a reader of the numbers should know: volumes that failed, labels or splits with a warning."""
    said = [
        f"{name}: {failed:,} volumes are error rows, so nothing here is of them; extract-embeddings errors says why"
        for name, account in accounts.items()
        if (failed := count_failed(account))
    ]
    for cell in made:
        people = cell.cell.run.record.cohort
        said += [f"{cell.dataset}: {note}" for note in (*people.table_notes, say_shared(people.splits_from)) if note]
        if cell.variant == FINE_TUNED and plan.judge == "val":
            said.append(f"{cell.dataset}, {cell.name}: {CHOSEN_ON_VAL}")
    return list(dict.fromkeys(said))
