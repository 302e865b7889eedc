"""Scans under two participants that are too alike to be two people's: lossy, noisy or brightened copies.

A scan's nearest other participants lie at distances d1 <= d2 <= ... In honest data d(k)/d(k+1) is seldom far below 1:
P(d1/d2 < r) = r^m, where m is the intrinsic dimension, found from the median ratio (Facco et al., Scientific Reports
2017, "TwoNN"). A gap that would come once in 10,000 honest stores, below a quarter of what is usual here, is a copy.
So people with one scan an eye are enough, and nothing is assumed of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64, Shaped, UInt8

from classify.cohort.mirrored_thumbnails import place_thumbnails
from classify.cohort.scan_cloud import Scale, ScanCloud, project
from classify.cohort.vouched import OPTION, Vouched
from classify.errors import LeakError
from embeddings_store.thumbnails import Thumbnails

FALSE_ALARMS = 1e-4
"""Expected in a whole store of honest participants."""

PICTURE_ALARMS = 5e-2
"""The same, of thumbnails: few of their numbers are free, so that a lossy copy stands out less."""

LARGEST_RATIO = 0.35
"""However high the dimension: the nearest person at a third of the distance of the next one is looked at."""

FAR_BELOW = 0.25
"""Of the usual distance to the (NEAREST + 1)th participant: rare devices have few neighbours, all of them far."""

EQUAL = 1e-3
"""Of that distance: a copy, however many participants share it."""

PICTURE_BELOW = 0.22
"""Of the same, for thumbnails: a lossy copy at 30 dB lies at up to 0.17, the nearest of 320 strangers at 0.25."""

PICTURE_NEAR = 0.14
"""Of the same, where only the farthest of the NEAREST + 1 neighbours is compared with: half of the way to strangers."""

LONE_RATIO, LONE_BELOW = 0.12, 0.5
"""The smallest ratio of 2,000 honest scans of one device is 0.20."""

ALIKE = 0.05
"""Distance of thumbnails (a correlation of 0.999) that needs no strangers to compare with."""

NEAREST = 8
FEWEST_PEOPLE = 12
FEWEST_NUMBERS = 16
COMPARED_WHOLE = 8192
"""Rows up to which every distance is measured."""

TINY = np.finfo("f4").tiny


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two rows of two participants, their distance by vectors or thumbnails, and the usual one to a near stranger."""

    first: int
    second: int
    distance: float
    usual: float
    by: str


def _near_copy(one: int, other: int, distance: float, usual: float, by: str = "standardised vectors") -> NearCopy:
    return NearCopy(min(one, other), max(one, other), distance, usual, by)


def find_near_copies(
    vectors: Float32[np.ndarray, "all d"],
    participant: Shaped[np.ndarray, " n"],
    *,
    rows: Int64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> list[NearCopy]:
    """List pairs of rows of two participants that are near copies, each pair once, first < second.

    rows: where the vector of each participant's scan lies; by default in their order.
    Standardised here. Memory: PROJECTED numbers a row, and blocks of 128 MB. None where there are fewer than
    FEWEST_PEOPLE.
    """
    people, owner = np.unique(participant, return_inverse=True)
    if len(people) < FEWEST_PEOPLE:
        return []
    order = np.argsort(owner, kind="stable")
    place = np.arange(len(owner)) if rows is None else rows
    scale = Scale.of(vectors, place)
    flat = project(scale, vectors, place[order], seed)
    cloud = ScanCloud(flat[None], owner[order])
    found = _look_near(cloud, FAR_BELOW, len(people), seed)
    if found is None:
        return []
    limit = found.reach(
        ratio=min(_seldom(found.learned, rows=len(owner)), LARGEST_RATIO), far_below=FAR_BELOW, rounding=cloud.rounding
    )
    pairs = [(int(order[a]), int(order[b])) for a, b in cloud.copies_within(limit)]
    return [_near_copy(a, b, scale.apart(vectors[place[a]], vectors[place[b]]), found.usual) for a, b in pairs]


@dataclass(frozen=True)
class _Near:
    """Distances to the nearest people: those learned from, and those of rows that may have copies, of so many."""

    learned: Float32[np.ndarray, "m k"]
    rows: Int64[np.ndarray, " r"]
    near: Float32[np.ndarray, "r k"]
    usual: float
    count: int

    def reach(self, **how: float) -> Float32[np.ndarray, " n"]:
        """Give the distance up to which a scan is a copy, for each row (see _reach); 0 where nobody is close."""
        limit = np.zeros(self.count, np.float32)
        limit[self.rows] = _reach(self.near, self.usual, **how)
        return limit


def _look_near(cloud: ScanCloud, below: float, people: int, seed: int) -> _Near | None:
    """Measure what is usual, and the rows that have somebody below a share of it; None where all scans are equal.

    What is usual is a median: of more than COMPARED_WHOLE rows those of a sample say it.
    """
    count, kept = len(cloud.owner), min(NEAREST + 1, people - 2)
    every = np.arange(count)
    whole = count <= COMPARED_WHOLE
    learned = cloud.nearest_people(kept, every if whole else cloud.sample(seed))
    usual = float(np.median(learned[:, -1]))
    if usual == 0:
        return None
    rows = every if whole else cloud.close_rows(below * usual, seed)
    return _Near(learned, rows, learned if whole else cloud.nearest_people(kept, rows), usual, count)


def find_alike_thumbnails(
    images: UInt8[np.ndarray, "n 8 32 32"], participant: Shaped[np.ndarray, " n"], *, seed: int = 0
) -> list[NearCopy]:
    """List pairs of rows of two participants whose thumbnails are near copies, mirrored or not; pairs as above.

    With fewer than FEWEST_PEOPLE only those that are as good as equal. A constant thumbnail is like no other.
    """
    varied = np.flatnonzero(images.reshape(len(images), -1).any(axis=1))
    people, owner = np.unique(participant[varied], return_inverse=True)
    if len(people) < 2:
        return []
    order = np.argsort(owner, kind="stable")
    seen = place_thumbnails(images[varied[order]], seed=seed)
    cloud = ScanCloud(seen, owner[order])
    if len(people) < FEWEST_PEOPLE:
        usual, limit = 1.0, np.full(len(order), ALIKE, np.float32)
    else:
        found = _look_near(cloud, max(PICTURE_BELOW, PICTURE_NEAR, LONE_BELOW), len(people), seed)
        if found is None:
            return []
        near, usual, rows = found.learned, found.usual, len(order)
        ratio = min(_seldom(near, PICTURE_ALARMS, rows=rows), LARGEST_RATIO)
        limit = found.reach(
            ratio=ratio,
            far_below=PICTURE_BELOW,
            rounding=cloud.rounding,
            lone=min(ratio, LONE_RATIO),
            deep=min(_seldom(near, PICTURE_ALARMS / (near.shape[1] - 1), rows=rows), LARGEST_RATIO),
        )
    return [
        _near_copy(int(varied[order[a]]), int(varied[order[b]]), cloud.apart(a, b), usual, "thumbnails")
        for a, b in cloud.copies_within(limit)
    ]


def _reach(
    near: Float32[np.ndarray, "n k"],
    usual: float,
    *,
    ratio: float,
    far_below: float,
    rounding: float,
    lone: float = 0,
    deep: float = 0,
) -> Float32[np.ndarray, " n"]:
    """Give for each row the distance up to which another participant's scan is a copy of it; 0: none is.

    lone: ratio at which a scan unlike all others, which a lossy copy lies farther from, has one all the same. deep:
    ratio to the farthest of these, where a stranger happens to lie near: P(d1/d(k+1) < r) is at most k r^m.
    """
    ratios = near[:, :-1] / np.maximum(near[:, 1:], TINY)
    gap = (ratios <= ratio) & (near[:, :-1] <= far_below * usual)
    gap |= (ratios <= lone) & (near[:, :-1] <= LONE_BELOW * usual)
    gap |= (near[:, :-1] <= deep * near[:, -1:]) & (near[:, :-1] <= PICTURE_NEAR * usual)
    last = np.where(gap.any(axis=1), gap.shape[1] - gap[:, ::-1].argmax(axis=1) - 1, -1)
    by_gap = np.where(last >= 0, near[np.arange(len(near)), last], 0)
    equal = np.where(near[:, 0] <= EQUAL * usual, EQUAL * usual, 0)
    far = np.maximum(by_gap, equal)
    found = (last >= 0) | (near[:, 0] <= EQUAL * usual)
    return np.where(found, 1.001 * far + rounding, 0).astype(np.float32)


def _seldom(near: Float32[np.ndarray, "n k"], alarms: float = FALSE_ALARMS, *, rows: int = 0) -> float:
    """Return the ratio of nearest distances below which so many rows of a whole honest store are expected to lie.

    rows: how many the store has, where near are those of some.
    """
    return float((alarms / (rows or len(near))) ** (1 / _dimension(near)))


def _dimension(near: Float32[np.ndarray, "n k"]) -> float:
    """Estimate the intrinsic dimension by medians, from the nearest and from the next person: copies spoil one of them.

    -log(d(k)/d(k+1)) is exponential with rate k m.
    """
    ratio = near[:, :2] / np.maximum(near[:, 1:3], TINY)
    logs = -np.log(np.clip(np.median(ratio, axis=0), 1e-6, 1 - 1e-6))
    return float(max(np.log(2) / (place * one) for place, one in enumerate(logs, start=1)))


@dataclass(frozen=True)
class Looked:
    """What was found. found: every pair once, the nearest first. unseen: why some could not be looked for, or ""."""

    found: list[NearCopy]
    unseen: str


def look_for_copies(
    vectors: Float32[np.ndarray, "all d"],
    participant: Shaped[np.ndarray, " n"],
    thumbnails: Thumbnails | None,
    rows: Int64[np.ndarray, " n"] | None = None,
) -> Looked:
    """Compare scans of different participants by their vectors and, where the store has them, by their thumbnails.

    rows: where the vector of each scan lies; by default in their order.
    """
    place = np.arange(len(participant)) if rows is None else rows
    found = find_near_copies(vectors, participant, rows=place)
    known = np.flatnonzero(thumbnails.known) if thumbnails is not None else np.array([], np.int64)
    if thumbnails is not None and len(known):
        for one in find_alike_thumbnails(thumbnails.images[known], participant[known]):
            found.append(replace(one, first=int(known[one.first]), second=int(known[one.second])))
    once: dict[tuple[int, int], NearCopy] = {}
    for one in sorted(found, key=lambda one: one.distance / one.usual):
        once.setdefault((one.first, one.second), one)
    return Looked(list(once.values()), _why_unseen(vectors, place, participant, len(known)))


def _why_unseen(
    vectors: Float32[np.ndarray, "all d"], place: Int64[np.ndarray, " n"], participant: Shaped[np.ndarray, " n"],
    pictures: int,
) -> str:  # fmt: skip
    if pictures == len(participant):
        return ""
    people, numbers = len(np.unique(participant)), int(Scale.of(vectors, place).varies.sum())
    without = f"{len(participant) - pictures} volumes have no thumbnail (extract them again to have it), and"
    if people < FEWEST_PEOPLE:
        return f"near copies could not be looked for: {without} {people} participants are too few to compare vectors"
    if numbers < FEWEST_NUMBERS:
        return f"near copies could not be looked for: {without} vectors of {numbers} numbers that vary are too short"
    return f"near copies were looked for by vectors: {without} lossy or mirrored copies of those may be missed"


def count_once(
    rows: pd.DataFrame,
    pooled: Float32[np.ndarray, "rows L P C"],
    vouched: Vouched,
    thumbnails: Thumbnails | None = None,
) -> tuple["pd.Series[bool]", "pd.Series[bool]", str]:
    """Mark the rows to leave out, as another participant of their split has them already, and those vouched for.

    rows: participant, split and position of the analysed volumes; a row whose column unread is true was not opened, and
    is like no other. Gives also why some copies could not be looked for, or "". Raises: LeakError where two
    participants of two splits have near copies; it names every pair.
    """
    if "unread" in rows:
        rows = rows.assign(unread=rows["unread"].astype(bool))
        marked = count_once(rows[~rows["unread"]].drop(columns="unread"), pooled, vouched, thumbnails)
        repeated, allowed = (mark.reindex(rows.index, fill_value=False) for mark in marked[:2])
        return repeated, allowed, marked[2]
    participant, split = rows["participant"].to_numpy(str), rows["split"].to_numpy(str)
    place = rows["position"].to_numpy(np.int64)
    pictures = None if thumbnails is None else thumbnails.take(place)
    looked = look_for_copies(pooled.reshape(len(pooled), -1), participant, pictures, place)
    open_pairs = [one for one in looked.found if not vouched.allows(participant[one.first], participant[one.second])]
    across = [one for one in open_pairs if split[one.first] != split[one.second]]
    if across:
        said = "; ".join(
            f"{participant[one.first]} ({split[one.first]}) and {participant[one.second]} ({split[one.second]}), "
            f"distance {one.distance:.3g} by {one.by}, where strangers' scans lie at about {one.usual:.3g}"
            for one in name_pairs(across, participant).values()
        )
        raise LeakError(
            f"nearly the same scan stands under participants of two splits: {said}; find out whose they are, or vouch "
            f"for twins and repeats: {OPTION} FILE"
        )
    told = {place for one in looked.found for place in (one.first, one.second)}
    again = {one.second for one in open_pairs}
    passed = told - {place for one in open_pairs for place in (one.first, one.second)}
    number = np.arange(len(rows))
    return (
        pd.Series(np.isin(number, list(again)), index=rows.index),
        pd.Series(np.isin(number, list(passed)), index=rows.index),
        looked.unseen,
    )


def name_pairs(found: Sequence[NearCopy], participant: Shaped[np.ndarray, " n"]) -> dict[tuple[str, str], NearCopy]:
    """Give the nearest copy of each pair of participants."""
    named: dict[tuple[str, str], NearCopy] = {}
    for copy in sorted(found, key=lambda one: one.distance / one.usual):
        first, second = sorted((str(participant[copy.first]), str(participant[copy.second])))
        named.setdefault((first, second), copy)
    return named
