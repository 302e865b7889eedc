"""Who is who: a person is known by volumes. A number alone speaks only where no volume of the person is known."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256

import numpy as np
import pandas as pd

from classify.cohort.table import Cohort
from embeddings_store.schema import Note
from embeddings_store.snapshot import Snapshot

People = dict[str, list[str]]
"""{digest of a participant's number: marks of the volumes}; without marks no volume of the person was known.

A mark is the id of a volume (a digest of its key), after "#" a digest of its object's md5 or after "=" of its vectors:
a scan that was laid out again under another number is the same scan.
"""

DIGITS = 16

MARKS = ("size", "etag", "md5", "vectors")
"""Columns of marked lines, each as far as it is known: of the object under the key, and digests of what it holds."""

OF_CONTENT = {"md5": "#", "vectors": "="}

MOST_OWNERS = 4
"""What more participants hold is a test pattern, and nobody's scan."""


def digest_person(participant: str) -> str:
    """Name a participant without the number itself."""
    return sha256(f"participant {participant}".encode()).hexdigest()[:DIGITS]


def with_groups(marked: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Add the target as it is written to marked lines of analysed volumes, so that labels of another task compare."""
    return marked.merge(cohort.groups, on="volume", how="left", validate="1:1")


def mark_volumes(stored: Snapshot) -> pd.DataFrame:
    """Give volume, participant and MARKS, a line each of the index; "" where a content says nothing of its owner.

    That is where a volume is constant or not finite, or where two participants have the same.
    """
    index = stored.index.reset_index(drop=True)
    lines = index[["volume", "participant", *(name for name in ("size", "etag") if name in index)]]
    return lines.assign(**{name: content.where(owners == 1, "") for name, content, owners in _contents(stored)})


def copied_people(stored: Snapshot) -> People:
    """Give everybody with a scan that others in the store hold, too, up to MOST_OWNERS: marks of these alone.

    They say of nobody who that is; but one of the owners may be somebody whose test answers are locked.
    """
    found: dict[str, set[str]] = {}
    for name, content, owners in _contents(stored):
        for place in np.flatnonzero((content != "") & owners.between(2, MOST_OWNERS)):
            person = digest_person(str(stored.index["participant"].iloc[place]))
            found.setdefault(person, set()).add(OF_CONTENT[name] + content.iloc[place])
    return {person: sorted(marks) for person, marks in found.items()}


def holders(copied: Mapping[str, list[str]], people: Mapping[str, list[str]]) -> set[str]:
    """Find those of copied people who hold a scan of these."""
    marks = {mark for known in people.values() for mark in known}
    return {person for person, own in copied.items() if not marks.isdisjoint(own)}


def people_of(lines: pd.DataFrame) -> People:
    """Give everybody with a line (volume, participant, and those of MARKS that are known)."""
    person = lines["participant"].map({one: digest_person(one) for one in lines["participant"].unique()})
    found = [pd.DataFrame({"person": person, "mark": lines["volume"].astype(str)})]
    for name, sign in OF_CONTENT.items():
        if name in lines:
            told = lines[name].fillna("") != ""
            found.append(pd.DataFrame({"person": person[told], "mark": sign + lines.loc[told, name].astype(str)}))
    return {str(name): sorted(set(marks)) for name, marks in pd.concat(found).groupby("person")["mark"]}


def other_objects(ours: pd.DataFrame, theirs: pd.DataFrame, *, same_space: bool) -> set[str]:
    """Name the volumes whose object is another one in marked lines of theirs, under the same key.

    Equal vectors are the same scan, and so are equal md5s; without these another size says so, and in one embedding
    space another etag. What is not known proves nothing.
    """
    shared = ["volume", *(name for name in MARKS if name in ours and name in theirs)]
    both = ours[shared].merge(theirs[shared], on="volume", suffixes=("", "_then"))

    def compared(name: str, unknown: str | int = "") -> tuple[np.ndarray, np.ndarray]:
        if name not in shared:
            return np.zeros(len(both), dtype=bool), np.zeros(len(both), dtype=bool)
        now, then = both[name].fillna(unknown), both[f"{name}_then"].fillna(unknown)
        known = ((now != unknown) & (then != unknown)).to_numpy(bool)
        return known & (now == then).to_numpy(bool), known & (now != then).to_numpy(bool)

    (same_vectors, _), (same_md5, other_md5) = compared("vectors"), compared("md5")
    other = other_md5 | (~same_md5 & compared("size", -1)[1])
    if same_space:
        other |= ~same_md5 & compared("etag")[1]
    return set(both.loc[other & ~same_vectors, "volume"].astype(str))


def without_keys(lines: pd.DataFrame, volumes: set[str]) -> pd.DataFrame:
    """Let some volumes be known by what they hold alone, since another object lies under their key."""
    return lines.assign(volume=[f"~{name}" if name in volumes else name for name in lines["volume"].astype(str)])


def test_people(participants: pd.DataFrame, stored: Mapping[str, list[str]]) -> People:
    """Give all test people of a participants table, whether or not the store holds a volume or the task takes them."""
    names = participants.loc[participants["split"] == "test", "participant"].map(digest_person)
    return {name: list(stored.get(name, [])) for name in sorted(names)}


def pick(people: Mapping[str, list[str]], participants: Iterable[str]) -> People:
    """Keep some participants, by their numbers."""
    names = {digest_person(participant) for participant in participants}
    return {name: marks for name, marks in people.items() if name in names}


def same_people(ours: Mapping[str, list[str]], theirs: Mapping[str, list[str]]) -> set[str]:
    """Find those of ours who stand in theirs: by a volume, or by number where either side knows no volume."""
    marks = {mark for known in theirs.values() for mark in known}
    return {
        person
        for person, own in ours.items()
        if not marks.isdisjoint(own) or (person in theirs and not (own and theirs[person]))
    }


def same_number_only(ours: Mapping[str, list[str]], theirs: Mapping[str, list[str]]) -> set[str]:
    """Find those of ours whose number stands in theirs with other volumes: they count as other people."""
    return (set(ours) & set(theirs)) - same_people(ours, theirs)


def _contents(stored: Snapshot) -> Iterator[tuple[str, "pd.Series[str]", "pd.Series[int]"]]:
    """Give what volumes hold, by each of OF_CONTENT ("" where constant or not known), and how many own the same."""
    index = stored.index.reset_index(drop=True)
    constant = (index["notes"].astype(np.int64) & Note.CONSTANT.value) != 0
    md5 = index["volume"].astype(str).map(lambda volume: stored.md5.get(volume, "")[:DIGITS])
    vectors = pd.Series([_digest(vectors) for vectors in stored.pooled], index=index.index, dtype="str")
    for name, content in (("md5", md5), ("vectors", vectors)):
        yield name, content.where(~constant, ""), index["participant"].groupby(content).transform("nunique")


def _digest(vectors: np.ndarray) -> str:
    return sha256(vectors.tobytes()).hexdigest()[:DIGITS] if np.isfinite(vectors).all() else ""
