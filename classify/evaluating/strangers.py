"""People of another place have to be strangers to a run: by what their scans are, and by how alike they look."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from classify.cohort.identity import digest_person, people_of, pick, same_number_only, same_people, without_keys
from classify.cohort.near_copies import find_near_copies, name_pairs
from classify.cohort.table import Cohort
from classify.cohort.vouched import OPTION, Vouched
from classify.errors import LeakError
from classify.features.table import FeatureTable
from classify.reference.training import TrainingReference
from classify.run.earlier import EarlierRun
from classify.run.folder import Run

NAMED = 6
OF_TRAIN, OF_HERE = "train of the run: ", "here: "


def count_namesakes(run: Run, cohort: Cohort, marked: pd.DataFrame, space: str) -> int:
    """Return how many of a cohort carry the number of somebody of the run, with none of the same scans.

    Raises: LeakError where somebody is a participant of the run, by key, md5 or vectors of a scan.

    marked: everybody in the store of the cohort, as mark_volumes gives them, in this embedding space.
    """
    known = EarlierRun(run.record, run.cohort)
    here = pick(people_of(without_keys(marked, known.other_objects(marked, space))), cohort.table["participant"])
    sides = {split: people_of(run.cohort[run.cohort["split"] == split]) for split in ("train", "val")}
    sides["test"] = known.test_people
    number = {digest_person(name): name for name in cohort.table["participant"].unique()}
    found = {split: sorted(number[one] for one in same_people(here, side)) for split, side in sides.items()}
    if any(found.values()):
        said = "; ".join(f"{split}: {_named(people)}" for split, people in found.items() if people)
        raise LeakError(
            f"--external: {len(set().union(*found.values()))} of {len(here)} participants are people of run "
            f"{run.record.id}, by the same scans ({said}); people of another place must be strangers to the run: leave "
            "these out of --labels"
        )
    return len(set().union(*(same_number_only(here, side) for side in sides.values())))


def refuse_near_copies(run: Run, reference: TrainingReference, raw: FeatureTable, vouched: Vouched) -> None:
    """Raises: LeakError where a scan here is nearly one of the run's train, by the vectors that the run remembers.

    raw: the reference's features of the cohort.
    """
    x = reference.standardiser.transform(raw.x, raw.protocol)
    trained = reference.known
    here = np.char.add(OF_HERE, raw.participant.astype(str))
    there = np.char.add(OF_TRAIN, trained.participant.astype(str))
    owner = np.concatenate([here, there])
    found = [
        pair
        for pair in name_pairs(find_near_copies(trained.with_directions_of(x), owner), owner)
        if pair[0].startswith(OF_HERE) and pair[1].startswith(OF_TRAIN)
    ]
    names = [(own.removeprefix(OF_HERE), other.removeprefix(OF_TRAIN)) for own, other in found]
    if shared := [f"{own} and {other} of train" for own, other in names if not vouched.allows(own, other)]:
        raise LeakError(
            f"--external: nearly the same scan as one that run {run.record.id} was fitted on: {_named(shared)}; find "
            f"out whose they are, or vouch for repeats: {OPTION} FILE"
        )


def _named(names: Collection[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (f" and {len(listed) - NAMED} more" if len(listed) > NAMED else "")
