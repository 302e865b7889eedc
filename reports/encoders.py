"""Which encoders the numbers of a page come from, and a banner where they were never trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from embeddings_store.encoder_source import NOT_RECORDED, Training, source_of_record
from embeddings_store.encoding_cost import cost_of_record
from reports.runs import FinishedRun

NO_TERMS = "as whoever trained it says"
TRAINED: dict[Training, str] = {
    "trained": "yes",
    "unclear": "the file does not tell",
    "barely": "barely, or not at all",
    "random": "no, random weights",
}
ENCODER_COLUMNS = (
    "Store or run", "Encoder", "Family", "Was it trained?", "Seconds a volume", "1,000 volumes", "Peak memory",
    "Licence", "To cite",
)  # fmt: skip
WHICH_ENCODER = (
    "What the lines of the leaderboard were read with, and on which terms. How they differ, on the same people, is in "
    "its columns. Seconds are those of the encoder alone, in the runs that wrote the store; the hours of 1,000 "
    "volumes follow from them, and their price where somebody said what the machine costs. Memory is of the whole "
    f"process. Where a cell says {NOT_RECORDED}, the store is older, or every run that wrote it was cut off."
)


def encoder_part(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Give what the frame of each page shows: encoders, a line each, and untrained, a sentence, "" where all are."""
    bare = [run.id for run in runs if run.encoder is not None and run.encoder.is_untrained]
    some = "" if len(bare) == len(runs) else f" This holds for {len(bare)} of {len(runs)} runs: {', '.join(bare)}."
    said = "The encoder has random weights, or nearly so. No number on this page says what pretraining has learned."
    return {
        "encoders": list(dict.fromkeys(describe_encoder(run) for run in runs)),
        "untrained": f"{said}{some}" if bare else "",
    }


def describe_encoder(run: FinishedRun) -> str:
    """Say where a run's encoder comes from; of a fine-tuned run the one that it started from."""
    if run.encoder is None:
        return f"its source is {NOT_RECORDED}"
    return f"{'fine-tuned from ' if run.stages else ''}{run.encoder.describe()}"


def encoder_rows(encoders: Mapping[str, Any], costs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Give a row of ENCODER_COLUMNS for each store or run of a comparison, from what it recorded of its encoder."""
    found = []
    for name, record in sorted(encoders.items()):
        one, spent = source_of_record(record), _cost_cells(costs.get(name))
        who = (one.name, one.family, TRAINED[one.training]) if one else (NOT_RECORDED,) * 3
        terms = (one.licence or NO_TERMS, one.citation or NO_TERMS) if one else (NOT_RECORDED,) * 2
        found.append((name, *who, *spent, *terms))
    return found


def _cost_cells(record: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Give seconds a volume, hours and price of 1,000, and memory."""
    cost = cost_of_record(record)
    if cost is None:
        return (NOT_RECORDED,) * 3
    price = "" if cost.usd_per_hour is None else f", ${cost.hours_per_1000 * cost.usd_per_hour:,.2f}"
    memory = cost.describe_memory().removeprefix("peak memory ")
    return f"{cost.seconds_a_volume:.3g} ({cost.device})", f"{cost.hours_per_1000:.2g} h{price}", memory
