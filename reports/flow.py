"""The cohort flow: from the volumes that the store knows to the analysed splits, and who was left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.cohort.splits import SPLITS


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A count that goes on, with those that were left out on the way to the next step."""

    title: str
    volumes: int
    participants: int | None
    left_out: tuple["LeftOut", ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Volumes that did not go on, and why. A participant may lose some volumes and keep others."""

    reason: str
    volumes: int
    participants: int | None


@dataclass(frozen=True, slots=True)
class Flow:
    """The way down, the splits at its end, and notes on what was odd but kept."""

    steps: tuple[FlowStep, ...]
    splits: tuple[FlowStep, ...]
    notes: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What the store knows now: volumes indexed, committed, failed (by error class) and not tried yet."""

    indexed: int
    committed: int
    errors_by_class: Mapping[str, int]
    missing: int


def make_flow(store: StoreCounts, record_flow: Sequence[Mapping[str, Any]]) -> Flow:
    """Put the store's counts before the flow that the run recorded.

    A store that has grown or shrunk since the run read it says so.
    """
    totals = {str(step["step"]): step for step in record_flow if step.get("kind") == "total"}
    excluded = tuple(_left_out(step) for step in record_flow if step.get("kind") == "excluded")
    notes = [_left_out(step) for step in record_flow if step.get("kind") == "note"]
    steps = [FlowStep("Volumes of the bucket, as indexed in the store", store.indexed, None, _not_embedded(store))]
    if "store" in totals:
        later = store.committed - int(totals["store"]["volumes"])
        if later > 0:
            surplus = LeftOut("committed after this run read the store", later, None)
            steps.append(FlowStep("Volumes with an embedding now", store.committed, None, (surplus,)))
        if later < 0:
            notes.append(LeftOut("the run read more embeddings than the store holds now", -later, None))
        steps.append(_step("Volumes with an embedding, read by the run", totals["store"], excluded))
    if "analysed" in totals:
        steps.append(_step("Joined with participants: analysed", totals["analysed"]))
    splits = [_step(f"{name}: {totals[name].get('reason', '')}", totals[name]) for name in SPLITS if name in totals]
    return Flow(tuple(steps), tuple(splits), tuple(notes))


def counted(volumes: int, participants: int | None) -> str:
    """Write "1,234 volumes of 99 participants"."""
    text = f"{volumes:,} volume{'' if volumes == 1 else 's'}"
    return text if participants is None else f"{text} of {participants:,} participant{'' if participants == 1 else 's'}"


def _not_embedded(store: StoreCounts) -> tuple[LeftOut, ...]:
    failed = [LeftOut(f"error: {name}", count, None) for name, count in sorted(store.errors_by_class.items())]
    waiting = [LeftOut("not tried yet", store.missing, None)] if store.missing else []
    return tuple(failed + waiting)


def _left_out(step: Mapping[str, Any]) -> LeftOut:
    reason = f"{step['step']}: {step['reason']}" if step.get("reason") else str(step["step"])
    return LeftOut(reason, int(step["volumes"]), int(step["participants"]))


def _step(title: str, step: Mapping[str, Any], left_out: tuple[LeftOut, ...] = ()) -> FlowStep:
    return FlowStep(title, int(step["volumes"]), int(step["participants"]), left_out)
