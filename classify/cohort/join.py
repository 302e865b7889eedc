"""The one door through which volumes meet labels: store index x participants -> Cohort, and who was left out."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from classify.cohort.clinical import covariate_name
from classify.cohort.label_lines import KEYS
from classify.cohort.near_copies import count_once
from classify.cohort.questions import STUDY_GROUP, Task
from classify.cohort.splits import SPLITS, check_no_leak
from classify.cohort.splitting import FOLD
from classify.cohort.table import BRIGHTNESS, COLUMNS, NOT_IN, Cohort, facts_of
from classify.cohort.tasks import STUDY_GROUPS
from classify.cohort.vouched import NOBODY, Vouched
from classify.errors import CohortError, LeakError
from classify.run.record import FlowStep
from embeddings_store.schema import SITES, Note
from embeddings_store.text_table import require_match
from embeddings_store.thumbnails import Thumbnails

TABLE, LABELS = "participants table", "labels"
UNIT_COLUMNS = ("participant", "eye", "volume")
NO_LINE = {
    "participant": "the participant is not in the table of labels",
    "eye": "the eye is not in the table of labels, or nobody knows which eye it is",
    "scan": "the volume is not in the table of labels",
}

WRONG_SITES = 0.5
"""With more participants than this share at another site than their id says, every label is in doubt."""


def join_cohort(
    index: pd.DataFrame,
    pooled: Float32[np.ndarray, "rows L P C"],
    lines: pd.DataFrame,
    task: Task,
    vouched: Vouched | None = NOBODY,
    thumbnails: Thumbnails | None = None,
    splits: Sequence[str] = SPLITS,
    *,
    leaks: bool = False,
) -> Cohort:
    """Join the rows of a store with the lines of a table of labels; the order of either does not matter.

    Raises: CohortError where nothing is left, a volume stands twice, a class or split cannot be used, all embeddings
    are equal, or sites say that the table is another study's; LeakError where one scan stands under two participants,
    or nearly the same under two of different splits.
    lines: as read_labels gives them for the task. vouched: whose near copies are none; None: pooled holds no
    embeddings, and nothing is near.
    thumbnails: one a row of index, as a snapshot has them. splits: those that lines have; without train nothing is
    fitted, and no class has to be there. leaks: a published split that shares people and scans was asked for, and so
    they are counted and not refused.
    """
    if index.empty:
        raise CohortError("the store: expected committed volumes, got none; run extract-embeddings first")
    if count := int(index["volume"].duplicated().sum()):
        raise CohortError(f"the store: {count} volumes stand in more than one row; run extract-embeddings verify")
    keys = list(KEYS[task.level])
    of_table, of_store = (frozenset(part[keys[0]].astype(str)) for part in (lines, index))
    where = TABLE if task.target == STUDY_GROUP else LABELS
    require_match(of_table, of_store, where, CohortError, "the store", keys[0])
    _refuse_levels(index, lines, task)
    _refuse_names_of_store(index, task)
    rows = index.assign(position=np.arange(len(index))).sort_values(["participant", "volume"], ignore_index=True)
    wanted = lines.drop(columns=[name for name in UNIT_COLUMNS if name in lines and name not in keys])
    rows = rows.rename(columns={"site": "site_of_id"}).merge(wanted, on=keys, how="left", validate="m:1")
    _refuse_wrong_join(rows)
    flow: list[FlowStep] = [_step("store", "total", rows, "volumes with an embedding")]
    for step, reason, bad in _exclusions(rows, pooled, task, splits, leaks=leaks):
        if (bad_now := bad[rows.index]).any():
            flow.append(_step(step, "excluded", rows[bad_now], reason))
            rows = rows[~bad_now]
    if leaks:
        flow += _shared_scans(rows, pooled)
    elif vouched is not None:
        vouched.require_known(set(index["participant"]))
        rows, steps = _settle_near_copies(rows, pooled, vouched, thumbnails)
        flow.extend(steps)
    task = _with_covariates(task, rows)
    flow.extend(_notes(rows, index, lines, task))
    table = _analysed_table(rows, task)
    flow.append(_step("analysed", "total", table, "volumes with a label and a split"))
    flow.extend(_split_steps(table, splits, crossed=FOLD in rows))
    position = rows["position"].to_numpy(np.int64)
    cohort = Cohort(
        table, position, task, _is_phantom(index), flow, brightness=_brightness(rows), facts=facts_of(rows),
        thumbnails=None if thumbnails is None else thumbnails.take(position), named=_named(rows, task),
        folds=rows[["volume", FOLD]].reset_index(drop=True) if FOLD in rows else None,
    )  # fmt: skip
    _check_usable(cohort, splits)
    return cohort


def _with_covariates(task: Task, rows: pd.DataFrame) -> Task:
    """Name age and site as covariates where the labels or the store know them, and nobody named any."""
    if task.covariates is not None or task.target == STUDY_GROUP:
        return task
    sites = rows["site"].where(rows["site"] != "", rows["site_of_id"])
    known = (("age", rows["age"].notna().any()), ("site", len(sites.unique()) > 1))
    asked = covariate_name(task.target)
    return replace(task, covariates=tuple(name for name, there in known if there and name != asked))


def _brightness(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Take what the store says of brightness; an older store says nothing."""
    return rows[["volume", *BRIGHTNESS]].reset_index(drop=True) if set(BRIGHTNESS) <= set(rows.columns) else None


def _named(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the target as it is written, and the covariates that the task names beyond age and site."""
    return rows[["volume", "group", *(name for name in task.covariates or () if name in rows)]].reset_index(drop=True)


def _analysed_table(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    label = rows["group"].map(task.number_of if task.is_number else dict(task.class_of))
    table = rows.assign(
        label=label.astype(np.float64 if task.is_number else np.int64),
        site=rows["site"].where(rows["site"] != "", rows["site_of_id"]),
    )
    return table[list(COLUMNS)].reset_index(drop=True)


def _exclusions(
    rows: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"], task: Task, splits: Sequence[str], *, leaks: bool
) -> list[tuple[str, str, "pd.Series[bool]"]]:
    """Name every reason to leave a volume out, in the order in which they are asked."""
    known = rows["group"].notna()
    constant = _has_note(rows, Note.CONSTANT)
    finite = pd.Series(_finite_rows(pooled)[rows["position"]], index=rows.index)
    strange = known & ~rows["group"].isin(STUDY_GROUPS) & (task.target == STUDY_GROUP)
    empty = known & (rows["group"] == "") | strange
    taken = ~rows["group"].isin(task.exclude) if task.is_number else rows["group"].isin(list(task.class_of))
    outside = known & ~empty & ~taken
    usable = ~constant & finite
    copies = _copies(rows[usable], pooled, rows, leaks=leaks)
    return [
        ("no participant", NO_LINE[task.level], ~known),
        ("no label", f"{task.target} is empty, or none of the known values: {_values(rows[empty])}", empty),
        ("not asked", f"the task {task.name} leaves out {_values(rows[outside])}", outside),
        ("no split", f"the split is none of {', '.join(splits)}", known & ~rows["split"].isin(splits)),
        *_in_one_store_only(rows),
        ("constant", "every voxel of the volume is equal", constant),
        ("not finite", "the embedding holds NaN or infinity; run extract-embeddings verify", ~finite),
        ("copy", "another volume of the same participant has the same embedding", copies),
    ]


def _in_one_store_only(rows: pd.DataFrame) -> list[tuple[str, str, "pd.Series[bool]"]]:
    """Name what only some of several stores hold; nothing where there is one store."""
    if NOT_IN not in rows:
        return []
    lacking = rows[NOT_IN] != ""
    said = ", ".join(f"{name} ({count})" for name, count in rows.loc[lacking, NOT_IN].value_counts().items())
    return [("not in all stores", f"no vector of it in {said}", lacking)]


def _values(rows: pd.DataFrame) -> str:
    counts = rows["group"].value_counts().head(6)
    return ", ".join(f"{str(value)[:60]!r} ({count})" for value, count in counts.items())


def _finite_rows(pooled: Float32[np.ndarray, "rows L P C"]) -> Bool[np.ndarray, " rows"]:
    return np.array([bool(np.isfinite(row).all()) for row in pooled], dtype=bool)


def _copies(
    usable: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"], rows: pd.DataFrame, *, leaks: bool
) -> "pd.Series[bool]":
    """Find volumes that repeat a scan, by equal vectors: the encoder is deterministic, names and UIDs are not.

    Raises: LeakError where the same scan stands under two participants: one of the labels must be wrong. leaks: then
    each keeps it.
    """
    digest = _digests(usable, pooled)
    if len(digest) > 1 == len(set(digest)):
        raise CohortError(
            f"the store: all {len(digest)} volumes have the same embedding, so it says nothing of any of them; "
            f"check the checkpoint with extract-embeddings doctor"
        )
    shared = usable["participant"].groupby(digest).transform("nunique") > 1
    if shared.any() and not leaks:
        names = ", ".join(sorted(usable.loc[shared, "participant"].unique()))
        raise LeakError(f"the same scan stands under several participants: {names}; find out whose it is")
    again = pd.DataFrame({"digest": digest, "participant": usable["participant"]}).duplicated()
    return again.reindex(rows.index, fill_value=False)


def _digests(rows: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"]) -> "pd.Series[str]":
    return pd.Series([sha256(pooled[place].tobytes()).hexdigest() for place in rows["position"]], index=rows.index)


def _shared_scans(rows: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"]) -> list[FlowStep]:
    """Count the scans that stand in several parts of a split, which was asked for all the same."""
    shared = rows["split"].groupby(_digests(rows, pooled)).transform("nunique") > 1
    reason = "the same scan stands in several parts of the published split; kept, as --official-splits says"
    return [_step("shared scans", "note", rows[shared], reason)] if shared.any() else []


def _settle_near_copies(
    rows: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"], vouched: Vouched, thumbnails: Thumbnails | None
) -> tuple[pd.DataFrame, list[FlowStep]]:
    """Count a scan that two participants of one split have once. Raises: LeakError across splits."""
    repeated, allowed, unseen = count_once(rows, pooled, vouched, thumbnails)
    steps = []
    if repeated.any():
        reason = "nearly the same scan stands under another participant of the same split, and counts there"
        steps.append(_step("near copy", "excluded", rows[repeated], reason))
    if allowed.any():
        reason = "nearly the same scan stands under another participant, as --allow-near-copies says rightly"
        steps.append(_step("near copies vouched for", "note", rows[allowed], reason))
    if unseen:
        steps.append(_step("near copies", "note", rows, unseen))
    return rows[~repeated], steps


def _refuse_levels(index: pd.DataFrame, lines: pd.DataFrame, task: Task) -> None:
    """Raise CohortError where labels of eyes meet scans of unknown eyes, or labels of scans other people."""
    if task.level == "eye" and not index["eye"].isin(["L", "R"]).any():
        raise CohortError(
            "the store: expected the eye of its volumes, since the labels are of eyes, got volumes whose eye nobody "
            "knows; give --scans with a column eye when extracting, or labels of participants or scans"
        )
    if task.level == "scan":
        _refuse_other_people(index, lines)


def _refuse_other_people(index: pd.DataFrame, lines: pd.DataFrame) -> None:
    """Raise CohortError where the labels know of one person whose scans the store keeps under several participants."""
    both = lines.loc[lines["participant"] != "", ["volume", "participant"]].merge(
        index[["volume", "participant"]], on="volume", suffixes=("", "_of_store")
    )
    kept = both.groupby("participant")["participant_of_store"].nunique()
    if (kept > 1).any():
        raise CohortError(
            f"labels: {int((kept > 1).sum())} participants, such as {kept.index[kept > 1][0]}, have scans that the "
            "store keeps under several participants, so that folds would tear a person apart; expected the same "
            "people in both: extract with --scans and a column participant that says what the labels say"
        )


def _refuse_names_of_store(index: pd.DataFrame, task: Task) -> None:
    """Raise CohortError where a covariate of the labels has the name of a column that every store has."""
    taken = sorted((set(task.covariates or ()) - {"age", "site"}) & {*index.columns, *COLUMNS, "unit", "protocols"})
    if taken:
        raise CohortError(
            f"covariate {taken[0]}: the store has a column of that name, which is not the one of the labels; rename "
            f"it in the labels, to {taken[0]}_of_labels or so"
        )


def _refuse_wrong_join(rows: pd.DataFrame) -> None:
    """Raise CohortError where table and store meet by id, but most ids encode another site than the table says."""
    coded = rows["site"].isin(SITES.values()) & (rows["site_of_id"] != "unknown")
    people = rows[coded].drop_duplicates("participant")
    wrong = int((people["site"] != people["site_of_id"]).sum())
    if wrong > WRONG_SITES * len(people):
        raise CohortError(
            f"participants table: clinical_site of {wrong} of {len(people)} participants is not the site that their id "
            f"encodes; the ids are shifted, or store and table belong to different data"
        )


def _notes(rows: pd.DataFrame, index: pd.DataFrame, lines: pd.DataFrame, task: Task) -> list[FlowStep]:
    """Say what is odd about the analysed rows without being a reason to leave them out."""
    scanned = lines["participant"].isin(index["participant"].unique())
    flagged_only = int(((lines["flagged"] == "TRUE") & ~scanned).sum())
    notes = [
        ("flag without volumes", 0, flagged_only, "retinal_oct is TRUE but the store holds no volume"),
        _note("volumes without flag", rows[rows["flagged"] == "FALSE"], "retinal_oct is FALSE but volumes exist"),
        _note(
            "age missing",
            rows[rows["age"].isna() & (task.covariates is None or "age" in task.covariates)],
            "no usable age; kept, and marked for the age baselines",
        ),
        _note(
            "site disagrees",
            rows[(rows["site"] != "") & (rows["site_of_id"] != "unknown") & (rows["site"] != rows["site_of_id"])],
            "the site of the labels differs from that of the store, or that the id encodes; the former is used",
        ),
    ]
    notes += [
        _note(f"{name} missing", rows[rows[name].isna() | (rows[name] == "")], f"no usable {name}; kept, and marked")
        for name in task.covariates or ()
        if name in rows and name not in ("age", "site")
    ]
    return [
        {"step": step, "kind": "note", "volumes": volumes, "participants": people, "reason": reason}
        for step, volumes, people, reason in notes
        if people
    ]


def _note(step: str, rows: pd.DataFrame, reason: str) -> tuple[str, int, int, str]:
    return step, len(rows), int(rows["participant"].nunique()), reason


def _step(step: str, kind: str, rows: pd.DataFrame, reason: str) -> FlowStep:
    people = int(rows["participant"].nunique())
    return {"step": step, "kind": kind, "volumes": len(rows), "participants": people, "reason": reason}


def _split_steps(table: pd.DataFrame, splits: Sequence[str], *, crossed: bool) -> list[FlowStep]:
    reasons = {"train": "fitted on", "val": "predicted", "test": "locked: neither fitted on nor predicted"}
    if crossed:
        splits, reasons["train"] = ("train", "test"), "fitted on, and predicted by fits without them"
    return [_step(one, "total", table[table["split"] == one], reasons.get(one, "of another place")) for one in splits]


def _is_phantom(index: pd.DataFrame) -> bool:
    return bool(_has_note(index, Note.SYNTHETIC).any())


def _has_note(rows: pd.DataFrame, note: Note) -> "pd.Series[bool]":
    return (rows["notes"].astype(np.int64) & note.value) != 0


def _check_usable(cohort: Cohort, splits: Sequence[str]) -> None:
    """Refuse a cohort on which nothing can be learned or judged."""
    if cohort.table.empty:
        reasons = "; ".join(f"{step['step']}: {step['volumes']}" for step in cohort.flow if step["kind"] == "excluded")
        raise CohortError(f"no volume is left to analyse ({reasons}); do the store and the table belong together?")
    sides = {split: cohort.units(split)["participant"].tolist() for split in splits}
    check_no_leak(sides)
    if "train" not in splits:
        return
    sizes = cohort.sizes()
    for split in ("train",) if cohort.folds is not None else ("train", "val"):
        if not sizes[split]["participants"]:
            raise CohortError(f"the {split} split is empty: expected participants whose split is {split!r}")
    absent = [name for name, count in sizes["train"].get("per_class", {}).items() if not count]
    if absent:
        raise CohortError(
            f"task {cohort.task.name}: every class needs a participant in train; none for {', '.join(absent)}; "
            f"extract more volumes, or choose another --task"
        )
