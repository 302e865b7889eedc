"""Who is who: a person is known by volumes. A number alone speaks only where no volume of the person is known."""

from collections.abc import Iterable, Mapping
from hashlib import sha256

import numpy as np
import pandas as pd
from jaxtyping import Float32

from embeddings_store.schema import Note

People = dict[str, list[str]]
"""{digest of a participant's number: marks of the volumes}; without marks no volume of the person was known.

A mark is the id of a volume (a digest of its key) or, after "=", a digest of its vectors: a scan that was laid out
again under another number is the same scan.
"""

DIGITS = 16


def digest_person(participant: str) -> str:
    """Name a participant without the number itself."""
    return sha256(f"participant {participant}".encode()).hexdigest()[:DIGITS]


def people_of(index: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"] | None = None) -> People:
    """Give everybody with a line (volume, participant); pooled: vectors of the lines, where they are at hand.

    Vectors that say nothing (constant, not finite, or shared by two participants) are no mark.
    """
    lines = pd.DataFrame({"person": index["participant"].map(digest_person), "mark": index["volume"].astype(str)})
    people: People = {str(person): sorted(set(marks)) for person, marks in lines.groupby("person")["mark"]}
    if pooled is None:
        return people
    content = pd.Series([_content(vectors) for vectors in pooled], index=lines.index)
    constant = (index["notes"].astype(np.int64) & Note.CONSTANT.value) != 0
    owners = lines["person"].groupby(content).transform("nunique")
    for person, marks in content[(content != "") & ~constant & (owners == 1)].groupby(lines["person"]):
        people[str(person)] += sorted(set(marks))
    return people


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


def _content(vectors: np.ndarray) -> str:
    return f"={sha256(vectors.tobytes()).hexdigest()[:DIGITS]}" if np.isfinite(vectors).all() else ""
