"""Which scans of a store are equal, whatever they are called and whoever encoded them: by bytes, else by voxels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from embeddings_store.reader import StoreReader
from embeddings_store.schema import Note

Groups: TypeAlias = Sequence[tuple[str, ...]]
"""Keys of scans that are equal, at least two each."""

SEEN = (
    "frames", "rows", "columns", "intensity_mean", "intensity_sd", "intensity_p01", "intensity_p50", "intensity_p99",
)  # fmt: skip
"""Facts that are all the same only where the voxels are."""


def equal_scans(reader: StoreReader) -> Groups:
    """Group the committed rows of a store whose objects have one md5, or whose voxels have the same SEEN in every bit.

    Constant scans are like no other: their voxels say nothing of whose they are. Vectors are not asked, so that stores
    of two encoders give the same groups.
    """
    index = reader.index()
    rows = [row for row in sorted(reader.arrays.commit.written_rows(reader.storage)) if row < len(index)]
    facts, commits = reader.facts(rows), reader.commits(rows)
    seen, notes = facts[list(SEEN)].to_numpy(np.float64), facts["notes"].to_numpy(np.int64)
    md5 = commits[["source_md5_high", "source_md5_low"]].to_numpy(np.int64)
    keys = index["key"].astype(str).to_numpy()[rows]
    same: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for place in np.flatnonzero((notes & Note.CONSTANT.value) == 0):
        if md5[place].any():
            same["md5", *md5[place].tolist()].append(str(keys[place]))
        if np.isfinite(seen[place]).all():
            same["voxels", *seen[place].tolist()].append(str(keys[place]))
    return _joined([one for one in same.values() if len(one) > 1])


def one_person_each(owner: Mapping[str, str], equal: Groups) -> dict[str, str]:
    """Return the person of each scan: owners of equal scans are one, called by the first of their names.

    owner: participant by key, "" unknown.
    """
    people = _joined([sorted({owner.get(key, "") for key in group} - {""}) for group in equal])
    first = {name: group[0] for group in people for name in group}
    return {key: first.get(name, name) for key, name in owner.items()}


def _joined(groups: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Join groups that share a member; each sorted, in order of their first members."""
    root: dict[str, str] = {}

    def find(one: str) -> str:
        while root.setdefault(one, one) != one:
            root[one] = one = root[root[one]]
        return one

    for group in groups:
        for one in group[1:]:
            low, high = sorted((find(group[0]), find(one)))
            root[high] = low
    found: dict[str, list[str]] = defaultdict(list)
    for one in root:
        found[find(one)].append(one)
    return sorted(tuple(sorted(members)) for members in found.values() if len(members) > 1)
