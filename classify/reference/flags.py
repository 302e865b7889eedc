"""Which volumes of a store a saved run may predict, and what should be known about each before its number is read."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from classify.cohort.identity import (
    People,
    copied_people,
    digest_person,
    holders,
    mark_volumes,
    people_of,
    same_number_only,
    same_people,
    without_keys,
)
from classify.cohort.table import NOT_IN
from classify.reference.fences import of_new_size
from classify.reference.training import TrainingReference
from classify.run.earlier import EarlierRun
from classify.run.folder import Run
from embeddings_store.schema import Note
from embeddings_store.snapshot import Snapshot

UNSAID = (Note.NONE, Note.ETAG_IS_NO_MD5, Note.MD5_UNCHECKED)  # how an object is kept and read is no matter of quality
SAID_OF_NOTE = {note: note.name.lower().replace("_", " ") for note in Note if note.name and note not in UNSAID}
UNSEEN_PROTOCOL = "protocol not in training"
UNSEEN_DEVICE = "device not in training"
OTHER_PERSON = "number of a participant of the run, with other volumes: taken for somebody new"
OTHER_OBJECT = "another object than the run's under the same key: taken for another scan"
UNLIKE_BRIGHTNESS = "intensity far outside training"
UNLIKE_SIZE = "frames, rows or columns not in training"

LOCKED = "locked: of the run's test split, where classify evaluate --split test looks and counts its looks"
CONSTANT = "constant: every voxel of the volume is equal"
NOT_FINITE = "not finite: the embedding holds NaN or infinity; run extract-embeddings verify"
ONE_STORE = "not in all stores: one of the stores that the run reads has no vector of it"
UNKNOWN = "unknown"
COPY = "copy: another volume of the same participant has the same embedding"


def describe_volumes(
    stored: Snapshot,
    run: Run,
    reference: TrainingReference,
    *,
    answer_unknown: bool = False,
    show_unknown: bool = False,
) -> pd.DataFrame:
    """Give one line a volume of the store, sorted by participant and volume as in a cohort.

    position (in pooled), volume, participant, eye, device, protocol, split_of_run ("" for a participant that the run
    does not know by a volume), flags ("; " between), withheld (why it is not predicted, or ""), unlike (why it is
    predicted but not to be relied on, or ""). answer_unknown: rely on scans unlike training's in brightness or size,
    and predict devices and protocols that training did not hold, too. show_unknown: predict these, but do not rely on
    them.
    """
    index, marked = stored.index, mark_volumes(stored)
    lines = index.assign(position=np.arange(len(index))).sort_values(["participant", "volume"], ignore_index=True)
    known = EarlierRun(run.record, run.cohort)
    replaced = known.other_objects(marked, stored.space_id)
    people = people_of(without_keys(marked, replaced))
    split, locked, other = _known_people(people, copied_people(stored), lines["participant"], known)
    others = {OTHER_PERSON: other.to_numpy(), OTHER_OBJECT: lines["volume"].isin(replaced).to_numpy()}
    said = pd.Series("", index=lines.index)
    unknown = _unknown(lines, run.cohort, answer_unknown)
    unlike = said if answer_unknown else said + _join(_unlike(lines, reference), len(lines))
    table = lines[["position", "volume", "participant", "eye", "device", "protocol"]]
    return table.assign(
        split_of_run=split,
        flags=_join(_marks(lines, run.cohort, reference) | others | _unlike(lines, reference), len(lines)),
        unlike=unlike.where(unknown == "", unknown),
        withheld=_withheld(lines, stored.pooled, locked, said if show_unknown else unknown),
    )


def _unknown(lines: pd.DataFrame, cohort: pd.DataFrame, answer: bool) -> "pd.Series[str]":
    """Say of each line which device or protocol training did not hold; "" where it held both, or all are answered."""
    train = cohort[cohort["split"] == "train"]
    said = pd.Series("", index=lines.index)
    for name in () if answer else ("protocol", "device"):
        held = ", ".join(sorted(train[name].astype(str).unique()))
        new = ~lines[name].isin(train[name])
        said[new] = f"{UNKNOWN} {name}: " + lines.loc[new, name].astype(str) + f"; training held {held}"
    return said


def _known_people(
    stored: People, copied: People, participant: "pd.Series[str]", run: EarlierRun
) -> tuple["pd.Series[str]", "pd.Series[bool]", "pd.Series[bool]"]:
    """Say of each line the split of its person in the run, whether it is locked, and whether the number alone is known.

    A look of the run opens the people that it saw; those of other groups, or without a volume then, stay locked. Whom
    the run does not know, and who holds the same scan as one of them, is locked, too.
    """
    seen = run.analysed_test if run.record.looks_at_test else {}
    known, numbers = dict[str, str](), set[str]()
    for split in ("val", "train"):
        part = people_of(run.cohort[run.cohort["split"] == split])
        known |= dict.fromkeys(same_people(stored, part), split)
        numbers |= same_number_only(stored, part)
    strangers = {person: marks for person, marks in copied.items() if person not in known}
    in_test = same_people(stored, run.test_people) | holders(strangers, run.test_people)
    known |= dict.fromkeys(in_test, "test")
    numbers |= same_number_only(stored, run.test_people)
    person = participant.map(digest_person)
    locked = person.isin(in_test - same_people(stored, seen) - holders(strangers, seen))
    return person.map(lambda name: known.get(name, "")), locked, person.isin(numbers - set(known))


def _unlike(lines: pd.DataFrame, reference: TrainingReference) -> dict[str, Bool[np.ndarray, " n"]]:
    return {
        UNLIKE_BRIGHTNESS: reference.fences.outside(lines),
        UNLIKE_SIZE: of_new_size(lines, reference.sizes),
    }


def _marks(
    lines: pd.DataFrame, cohort: pd.DataFrame, reference: TrainingReference
) -> dict[str, Bool[np.ndarray, " n"]]:
    notes = lines["notes"].to_numpy(np.int64)
    marks = {said: (notes & note.value) != 0 for note, said in SAID_OF_NOTE.items()}
    marks[UNSEEN_PROTOCOL] = ~lines["protocol"].isin(reference.protocols).to_numpy()
    marks[UNSEEN_DEVICE] = ~lines["device"].isin(cohort.loc[cohort["split"] == "train", "device"]).to_numpy()
    return marks


def _join(marks: Mapping[str, Bool[np.ndarray, " n"]], lines: int) -> list[str]:
    return ["; ".join(said for said, marked in marks.items() if marked[place]) for place in range(lines)]


def _withheld(
    lines: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"], locked: "pd.Series[bool]", unknown: "pd.Series[str]"
) -> list[str]:
    vectors = [pooled[place] for place in lines["position"]]
    digest = [sha256(vector.tobytes()).hexdigest() for vector in vectors]
    constant = (lines["notes"].to_numpy(np.int64) & Note.CONSTANT.value) != 0
    finite = np.array([bool(np.isfinite(vector).all()) for vector in vectors], dtype=bool)
    usable = ~constant & finite
    copy = lines[usable].assign(digest=np.array(digest)[usable]).duplicated(["participant", "digest"])
    reasons = {
        LOCKED: locked.to_numpy(),
        ONE_STORE: (lines[NOT_IN] != "").to_numpy() if NOT_IN in lines else np.zeros(len(lines), dtype=bool),
        CONSTANT: constant,
        NOT_FINITE: ~finite,
        COPY: copy.reindex(lines.index, fill_value=False).to_numpy(),
    }
    why = [next((said for said, holds in reasons.items() if holds[place]), "") for place in range(len(lines))]
    return [said or new for said, new in zip(why, unknown, strict=True)]
