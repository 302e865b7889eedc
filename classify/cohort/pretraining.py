"""Participants that the encoder was pretrained on: known scans flatter an encoder, so they are flagged and counted."""

from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from classify.cohort.participants import ID_NAMES
from classify.cohort.splits import SPLITS
from classify.cohort.table import Cohort, insert_notes
from classify.errors import CohortError

NOT_GIVEN: dict[str, Any] = {
    "given": False,
    "reason": "--pretrain-participants was not given: whether the encoder saw people of val or test is not known",
}


def read_pretraining(path: Path) -> frozenset[str]:
    """Read ids: one a line, or a table with tabs and a column participant_id or person_id.

    Raises: CohortError where the file is missing, holds no id, or is a table without that column.
    """
    where = f"--pretrain-participants {path.name}"
    try:
        lines = [line.rstrip("\r") for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"{where}: expected a text file of participant ids, got: {error}") from error
    header = [name.strip() for name in lines[0].split("\t")] if lines else []
    found = [header.index(name) for name in ID_NAMES if name in header]
    if len(header) > 1 and not found:
        raise CohortError(f"{where}: expected a column {' or '.join(ID_NAMES)}, got {', '.join(header[:4])}")
    if found:
        ids = [cells[found[0]].strip() for line in lines[1:] if len(cells := line.split("\t")) > found[0]]
    else:
        ids = [line.strip() for line in lines]
    if not (known := frozenset(ids) - {""}):
        raise CohortError(f"{where}: expected at least one participant id, got none")
    return known


def flag_pretraining(cohort: Cohort, pretrained: Set[str]) -> Cohort:
    """Note in the flow how many participants of each split the encoder was pretrained on."""
    seen = cohort.table["participant"].isin(list(pretrained))
    notes = []
    for split in SPLITS:
        part = cohort.table[seen & (cohort.table["split"] == split)]
        people = int(part["participant"].nunique())
        reason = f"the encoder was pretrained on these participants of {split}"
        line = {"step": f"seen in pretraining: {split}", "kind": "note", "volumes": len(part), "participants": people}
        notes += [line | {"reason": reason}] if people else []
    return replace(cohort, flow=insert_notes(cohort.flow, notes))


def describe_overlap(cohort: Cohort, pretrained: Set[str]) -> dict[str, Any]:
    """Give the ``pretraining`` field of the run record: how many ids were given, and how many of each split are in."""
    people = cohort.table.drop_duplicates("participant")
    seen = people[people["participant"].isin(list(pretrained))]
    counts = {split: int((seen["split"] == split).sum()) for split in SPLITS}
    return {"given": True, "listed": len(pretrained), "participants": counts, "without": {}}
