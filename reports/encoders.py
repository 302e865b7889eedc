"""Which encoders the numbers of a page come from, and a banner where they were never trained."""

from collections.abc import Sequence
from typing import Any

from embeddings_store.encoder_source import NOT_RECORDED
from reports.runs import FinishedRun


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
