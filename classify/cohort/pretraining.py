"""Participants that the encoder was pretrained on: scans that it knows make it look better, so they are counted.

A list names numbers, not scans: who stands in it is known by number alone, and reported so.
"""

from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from classify.cohort.identity import digest_person
from classify.cohort.splits import SPLITS
from classify.cohort.table import Cohort, insert_notes
from classify.errors import CohortError
from classify.run.record import FlowStep
from embeddings_store.text_table import read_file, read_ids

NOT_GIVEN: dict[str, Any] = {
    "given": False,
    "reason": "--pretrain-participants was not given: whether the encoder saw people of val or test is not known",
}


def read_pretraining(path: Path, tell: Callable[[str], None] = lambda _: None) -> frozenset[str]:
    """Read ids: one a line, or a table with a column participant_id or person_id. tell: hears what was mended.

    Raises: CohortError where the file is missing, holds no id, or is a table without that column.
    """
    where = f"--pretrain-participants {path.name}"
    known, notes = read_ids(read_file(path, where, CohortError), where, CohortError)
    for said in notes:
        tell(said)
    return known


def flag_pretraining(cohort: Cohort, pretrained: Set[str]) -> Cohort:
    """Note in the flow how many participants of each split the encoder was pretrained on."""
    seen = cohort.table["participant"].isin(list(pretrained))
    notes: list[FlowStep] = []
    for split in SPLITS:
        part = cohort.table[seen & (cohort.table["split"] == split)]
        people = int(part["participant"].nunique())
        reason = f"the encoder was pretrained on these participants of {split}, who are known by number alone"
        step = f"seen in pretraining: {split}"
        if people:
            notes.append(FlowStep(step=step, kind="note", volumes=len(part), participants=people, reason=reason))
    return replace(cohort, flow=insert_notes(cohort.flow, notes))


def describe_overlap(cohort: Cohort, pretrained: Set[str], strangers: Set[str] = frozenset()) -> dict[str, Any]:
    """Give the ``pretraining`` field of the run record: how many ids were given, and how many of each split are in.

    strangers: digests of participants whose number has other volumes in an earlier run; those who are listed count as
    seen all the same, and as doubtful.
    """
    people = cohort.table.drop_duplicates("participant")
    seen = people[people["participant"].isin(list(pretrained))]
    counts = {split: int((seen["split"] == split).sum()) for split in SPLITS}
    doubtful = sum(digest_person(name) in strangers for name in seen["participant"])
    found = {"given": True, "listed": len(pretrained), "participants": counts, "without": {}}
    return found | {"matched": "by number"} | ({"with_other_volumes": doubtful} if doubtful else {})
