"""What the runs of a folder, and of its copies, know of the people of a new one: who was test, who was looked at."""

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from classify.cohort.identity import (
    MARKS,
    OF_CONTENT,
    People,
    other_objects,
    people_of,
    pick,
    same_number_only,
    same_people,
    without_keys,
)
from classify.cohort.questions import Task
from classify.cohort.table import Cohort
from classify.cohort.tasks import task_of_record
from classify.errors import LeakError, RunFolderError
from classify.model_files import read_json
from classify.run.folder import COHORT
from classify.run.ledger import LEDGER, LedgerLine, read_ledger
from classify.run.record import RECORD, Evaluation, Resplit, RunRecord
from embeddings_store.regular_file import require_regular

DEPTH = 3
"""How many folders below the runs a copy of a run is looked for."""

FEW_CHANGES = 0.1
"""A corrected label is named; if more of the shared participants than this changed, the table is another one."""

YEARS_APART = 5.0
RUN_NAME = re.compile(r"\d{8}-\d{6}-.+-[0-9a-f]{6}")
GONE = "a run that is gone"
"""Made a look of which only the count is left, in the record of a later one."""

NEEDED = ["volume", "participant", "site", "age", "label", "split"]
GROUP = "group"
RESPLIT = "or say why it is right with --resplit REASON, which is kept and shown with every number"


@dataclass(frozen=True)
class EarlierRun:
    """A finished run. cohort: volume, participant, site, age, label, split and MARKS of what it analysed."""

    record: RunRecord
    cohort: pd.DataFrame

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.record.id

    @property
    def analysed_test(self) -> People:
        """Give the test people that a look at this run sees."""
        known = self.record.cohort.test_people
        people = people_of(self.cohort[self.cohort["split"] == "test"])
        return {person: sorted({*marks, *known.get(person, [])}) for person, marks in people.items()}

    @property
    def judged_out_of_fold(self) -> People:
        """Give everybody whom a cross-validated run judged."""
        return people_of(self.cohort[self.cohort["split"] == "train"])

    @property
    def test_people(self) -> People:
        """Give all test people; of an older run those that it analysed, the others it does not know."""
        return self.record.cohort.test_people or self.analysed_test

    def other_objects(self, lines: pd.DataFrame, space: str) -> set[str]:
        """Name the volumes of marked lines, made in an embedding space, that are other objects than in this run."""
        return other_objects(lines, self.cohort, same_space=self.record.asked.space == space)


def find_earlier(runs: Path, tell: Callable[[str], None]) -> list[EarlierRun]:
    """Read every finished run below a folder, and in its copies beside it. tell: hears of damaged ones."""
    found = (_read(path, tell) for place in _places(runs) for path in _below(place, RECORD))
    return [run for run in found if run is not None]


def find_looks(runs: Path, people: People, cohort_sha256: str, earlier: Sequence[EarlierRun]) -> list[LedgerLine]:
    """Give every look that saw one of these people, oldest first, from the ledgers and the records of the runs.

    Each stands once, though ledgers are copied and records repeat them; what either has lost the other one gives, and a
    record that counted more than is left to read is believed: the others stand as GONE.
    Raises: RunFolderError for a damaged ledger.
    """
    seen_by = {run.id: run for run in earlier}
    told = [(line, 0) for line in _ledger_lines(runs)]
    told += [pair for run in earlier for pair in _looks_of_record(run, {line.run for line, _ in told})]
    looks: dict[tuple[str, str], LedgerLine] = {}
    at_least = 0
    for line, number in told:
        known = line.people or (seen_by[line.run].analysed_test if line.run in seen_by else {})
        if line.cohort_sha256 == cohort_sha256 or same_people(people, known):
            looks.setdefault(line.key, line)
            if len(same_people(known, people)) == len(known):  # who was looked at so often stands among these
                at_least = max(at_least, number)
    lost = [LedgerLine(GONE, "", cohort_sha256, f"lost {number}") for number in range(at_least - len(looks))]
    return sorted([*looks.values(), *lost], key=lambda line: line.date)


def _looks_of_record(run: EarlierRun, in_ledgers: Set[str]) -> list[tuple[LedgerLine, int]]:
    """Give the looks that a record tells of, and the how-manieth each was; numbers of test are one look at least.

    A cross-validated run has looked at everybody in its folds.
    """
    cohort, entries = run.record.cohort.cohort_sha256, run.record.evaluations
    looks = [(_line_of(run.id, entry, cohort), int(entry.get("look", 1))) for entry in entries]
    if run.record.is_crossed:
        looks.append((LedgerLine(run.id, run.record.made.created, cohort, "", run.judged_out_of_fold), 0))
    has_test = "test" in run.record.judged.metrics.get("participant", {})
    if has_test and not run.record.looks_at_test and run.id not in in_ledgers:
        looks.append((LedgerLine(run.id, "", cohort), 1))
    return looks


def _line_of(run: str, entry: Evaluation, cohort: str) -> LedgerLine:
    """Give the ledger line of a look of a record; of one outside, whose people stand in the entry itself."""
    seen = entry.get("cohort_sha256", cohort)
    return LedgerLine(run, str(entry["date"]), seen, str(entry.get("id", "")), entry.get("people"))


@dataclass(frozen=True)
class Standing:
    """How people stand against earlier runs. resplit: of the run record.

    strangers: digests of those who carry the number of somebody of an earlier run, with none of the same volumes.
    """

    resplit: Resplit | None
    strangers: frozenset[str]


def check_earlier(
    runs: Path, cohort: Cohort, marked: pd.DataFrame, space: str, *, resplit: str | None, tell: Callable[[str], None]
) -> Standing:
    """Refuse a new run whose people stand otherwise in earlier ones.

    marked: everybody in the store, as mark_volumes gives them, in this embedding space. tell: hears of what is odd and
    no reason to refuse.
    Raises: LeakError where somebody was test and is train or val now, or where the same volumes carry other people or
    the same keys other objects, and no resplit says why; RunFolderError.
    """
    earlier = find_earlier(runs, tell)
    fitted = pick(people_of(marked), cohort.table.loc[cohort.table["split"] != "test", "participant"])
    table = cohort.table.merge(marked.drop(columns="participant"), on="volume")
    changed, replaced = _Share(0, 1, ""), _Share(0, 1, "")
    moved: dict[str, set[str]] = {}
    strangers: set[str] = set()
    cohorts = set[str]()
    for run in earlier:
        others = run.other_objects(marked, space)
        moved[run.id] = same_people(fitted, run.test_people)  # by a key as well: what was test stays locked
        if run.record.cohort.cohort_sha256 in cohorts and not others:
            continue
        cohorts.add(run.record.cohort.cohort_sha256)
        here = without_keys(table, others)
        strangers |= same_number_only(people_of(here), people_of(run.cohort))
        changed = max(changed, _Share(*count_changes(here, cohort.task, run), run.id))
        shared = table["volume"].isin(run.cohort["volume"])
        replaced = max(replaced, _Share(int(table["volume"].isin(others).sum()), int(shared.sum()), run.id))
    for line in _ledger_lines(runs):  # a run that is deleted has left whom it looked at
        moved[line.run] = moved.get(line.run, set()) | same_people(fitted, line.people or {})
    if strangers:
        tell(
            f"{len(strangers)} participants carry the number of another participant of an earlier run here, with none "
            "of the same volumes: they count as other people"
        )
    people: set[str] = set()
    people.update(*moved.values())
    was_test = ", ".join(sorted(name for name, found in moved.items() if found)[:2])
    reasons = [f"{len(people)} participants who are train or val now were test in {was_test}"] if people else []
    for share, said in (
        (changed, f"participants have another number, label, or age and site than in {changed.run}"),
        (replaced, f"volumes are other objects, under the same keys, than in {replaced.run}"),
    ):
        if share.is_large:
            reasons.append(f"{share.count} of {share.of} {said}")
        elif share.count:
            tell(f"participants table and store: {share.count} of {share.of} {said}")
    if not reasons:
        return Standing(None, frozenset(strangers))
    if not resplit:
        raise LeakError(
            f"participants table: {'; '.join(reasons)}, known by the same volumes; give the table and store of the "
            f"earlier runs, {RESPLIT}"
        )
    told: Resplit = {"reason": resplit, "was_test": len(people), "changed": changed.count, "why": "; ".join(reasons)}
    return Standing(told, frozenset(strangers))


@dataclass(frozen=True, slots=True)
class _Share:
    """How many of how many, in the run where they are most."""

    count: int
    of: int
    run: str

    def __lt__(self, other: "_Share") -> bool:
        return self.count * other.of < other.count * self.of

    @property
    def is_large(self) -> bool:
        """More than a few corrections."""
        return self.count > max(1, FEW_CHANGES * self.of)


def count_changes(table: pd.DataFrame, task: Task, run: EarlierRun) -> tuple[int, int]:
    """Count participants whose volumes carry another number, label, or age and site in a run, and all who share one.

    table: of a cohort, with MARKS as far as they are known. task: of its labels; those of another task on the same
    target contradict a label where no value has both, and of another target nothing. An age alone is no other person.
    """
    both = _same_scans(table, run.cohort)
    numbers = set(run.cohort["participant"])
    unlike = (both["participant"] != both["participant_then"]) & (both["by_key"] | both["participant"].isin(numbers))
    unlike |= (both["site"] != both["site_then"]) & ((both["age"] - both["age_then"]).abs() > YEARS_APART)
    before = task_of_record(run.record)
    if (before.target, before.level) != (task.target, task.level):
        return int(both.loc[unlike, "participant"].nunique()), int(both["participant"].nunique())
    if GROUP in both:
        known = both[[GROUP, f"{GROUP}_then"]].notna().all(axis=1)
        unlike |= known & (both[GROUP] != both[f"{GROUP}_then"])
    if task.is_number or before.is_number:
        unlike |= (both["label"] != both["label_then"]) & (task.is_number == before.is_number)
    else:
        known_groups = task.class_of.keys() & before.class_of.keys()
        possible = {(task.class_of[group], before.class_of[group]) for group in known_groups}
        labels = zip(both["label"], both["label_then"], strict=True)
        unlike |= np.array([pair not in possible for pair in labels], dtype=bool)
    return int(both.loc[unlike, "participant"].nunique()), int(both["participant"].nunique())


def _same_scans(now: pd.DataFrame, then: pd.DataFrame) -> pd.DataFrame:
    """Pair the lines of the same scan: by its key, and by what it holds where that is known."""
    names = ["participant", "label", "age", "site", *([GROUP] if GROUP in now and GROUP in then else [])]
    pairs = []
    for mark in ("volume", *OF_CONTENT):
        if mark in now and mark in then:
            ours, theirs = (one.loc[one[mark].fillna("") != "", [mark, *names]] for one in (now, then))
            pairs.append(ours.merge(theirs, on=mark, suffixes=("", "_then")).assign(by_key=mark == "volume"))
    return pd.concat(pairs, ignore_index=True)


def _ledger_lines(runs: Path) -> list[LedgerLine]:
    ledgers = (path.parent for place in _places(runs) for path in _below(place, LEDGER))
    return [line for place in ledgers for line in read_ledger(place).lines]


def _places(runs: Path) -> list[Path]:
    """Name the folder of runs, and its copies nearby, which hold one of its runs too, known by the run's name.

    Nearby: the two folders above, those in them, and those in the folders beside the runs.
    """
    here = runs.resolve()
    own = {path.parent.name for path in here.glob(f"*/{RECORD}") if RUN_NAME.fullmatch(path.parent.name)}
    above = here.parent.parent
    found = {above, here.parent, *_folders(above, "*"), *_folders(here.parent, "*"), *_folders(here.parent, "*/*")}
    return [here, *(path for path in sorted(found - {here}) if own and _holds(path, own))]


def _folders(place: Path, pattern: str) -> list[Path]:
    return [path for path in place.glob(pattern.replace("*", "[!.]*") + "/") if not path.is_symlink()]


def _holds(place: Path, names: Set[str]) -> bool:
    try:
        return any((place / name / RECORD).is_file() for name in names & {each.name for each in place.iterdir()})
    except OSError:  # not ours to read
        return False


def _below(place: Path, name: str) -> Iterator[Path]:
    for depth in range(DEPTH + 1):
        yield from sorted(place.glob("/".join([*["[!.]*"] * depth, name])))


def _read(path: Path, tell: Callable[[str], None]) -> EarlierRun | None:
    """Read a run; None for a run.json of another program, and where a run is damaged, which is said."""
    try:
        raw = read_json(path)
        if not isinstance(raw, dict) or not {"id", "cohort_sha256", "classes", "metrics"} <= set(raw):
            return None
        record = RunRecord.from_dict(raw, path.parent.name)
        require_regular(path.parent / COHORT)
        cohort = pd.read_parquet(path.parent / COHORT)
        return EarlierRun(record, cohort[[*NEEDED, *(name for name in (GROUP, *MARKS) if name in cohort)]])
    except (OSError, ValueError, TypeError, KeyError, RunFolderError) as error:
        tell(f"run folder {path.parent.name}: {type(error).__name__} while reading; its test people are not known here")
        return None
