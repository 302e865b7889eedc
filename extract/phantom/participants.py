"""Who is in the phantom study: ids, sites, classes, ages and splits. No image knows any of it, unless asked.

Ages have a mild relation to the class (means 57, 60, 61, 60 years, deviation 10, between 40 and 85), as cohorts of
type 2 diabetes have, and none to the image. Val and test are nearly class-balanced, train is not (the public numbers of
participants with OCT: about 290 / 162 / 233 / 58 of 743). Sites take turns inside each split and class.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from embeddings_store.errors import UsageError

STUDY_GROUPS = (
    "healthy",
    "pre_diabetes_lifestyle_controlled",
    "oral_medication_and_or_non_insulin_injectable_medication_controlled",
    "insulin_dependent",
)
TRAIN_COUNTS = (290, 162, 233, 58)
MEAN_AGES = (57, 60, 61, 60)
SITE_DIGITS = {"UW": 1, "UCSD": 4, "UAB": 7}
MOST_PARTICIPANTS = 3 * 999
HELD_OUT_SHARE = 0.15

FLAGS = (
    "cardiac_ecg",
    "clinical_data",
    "environment",
    "retinal_flio",
    "retinal_oct",
    "retinal_octa",
    "retinal_photography",
    "wearable_activity_monitor",
    "wearable_blood_glucose",
)


@dataclass(frozen=True, slots=True)
class Participant:
    """One row of participants.tsv; class_index counts STUDY_GROUPS."""

    id: str
    site: str
    class_index: int
    age: int
    visit: date
    split: str
    flags: tuple[bool, ...]

    def flagged(self, flag: str, value: bool) -> "Participant":
        """Copy the row with one of FLAGS changed."""
        changed = tuple(value if name == flag else old for name, old in zip(FLAGS, self.flags, strict=True))
        return replace(self, flags=changed)


def draw_participants(count: int, seed: int, *, octa: bool, site_follows_class: bool) -> list[Participant]:
    """Draw the cohort, sorted by id.

    site_follows_class: the confound: class 0 comes mostly (80 %) from UW, class 1 from UW or UCSD, class 2 from UCSD or
    UAB, class 3 mostly from UAB.

    Raises: UsageError when the ids of three sites do not suffice.
    """
    if not 1 <= count <= MOST_PARTICIPANTS:
        raise UsageError(f"--participants: expected 1 to {MOST_PARTICIPANTS} (999 ids a site), got {count}")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    places = [(split, group) for split, size in split_sizes(count).items() for group in class_list(split, size)]
    sites = [_site(rng, i, group, site_follows_class) for i, (_, group) in enumerate(places)]
    numbers = _free_numbers(rng, sites)
    people = [
        _participant(rng, SITE_DIGITS[site] * 1000 + number, site=site, group=group, split=split, octa=octa)
        for (split, group), site, number in zip(places, sites, numbers, strict=True)
    ]
    return sorted(people, key=lambda person: person.id)


def split_sizes(count: int) -> dict[str, int]:
    """Divide 70 / 15 / 15, with all four classes in val and test as soon as there are 16 participants."""
    held_out = round(HELD_OUT_SHARE * count)
    if count >= 16:
        held_out = max(held_out, len(STUDY_GROUPS))
    return {"train": count - 2 * held_out, "val": held_out, "test": held_out}


def class_list(split: str, size: int) -> list[int]:
    """List the classes of a split: imbalanced in train (with every class from four people on), balanced elsewhere."""
    if split != "train":
        return [i % len(STUDY_GROUPS) for i in range(size)]
    exact = np.array(TRAIN_COUNTS) / sum(TRAIN_COUNTS) * size
    counts = np.floor(exact).astype(int)
    for group in np.argsort(counts - exact, kind="stable")[: size - int(counts.sum())]:
        counts[group] += 1
    if size >= len(STUDY_GROUPS):
        for group in np.flatnonzero(counts == 0):
            counts[group] += 1
            counts[int(np.argmax(counts))] -= 1
    return [group for group, n in enumerate(counts.tolist()) for _ in range(n)]


def _site(rng: np.random.Generator, turn: int, group: int, follows_class: bool) -> str:
    names = list(SITE_DIGITS)
    if not follows_class:
        return names[turn % len(names)]
    shares = ((0.8, 0.1, 0.1), (0.45, 0.45, 0.1), (0.1, 0.45, 0.45), (0.1, 0.1, 0.8))[group]
    return names[int(rng.choice(3, p=shares))]


def _free_numbers(rng: np.random.Generator, sites: list[str]) -> list[int]:
    """Give each participant a number of its site, in mixed order, so that ids tell nothing about classes."""
    pools = {}
    for site in SITE_DIGITS:
        needed = sites.count(site)
        if needed > 999:
            raise UsageError(
                f"--confound site: {needed} participants fall to {site}, expected at most 999; ask for fewer"
            )
        pools[site] = rng.permutation(np.arange(1, needed + 1)).tolist()
    return [int(pools[site].pop()) for site in sites]


def _participant(
    rng: np.random.Generator, number: int, *, site: str, group: int, split: str, octa: bool
) -> Participant:
    age = int(np.clip(round(rng.normal(MEAN_AGES[group], 10)), 40, 85))
    visit = date(2023, 7, 19) + timedelta(days=int(rng.integers(0, 400)))
    present = dict(zip(FLAGS, (rng.random(len(FLAGS)) < 0.93).tolist(), strict=True))
    present |= {"clinical_data": True, "retinal_oct": True, "retinal_octa": octa}
    return Participant(str(number), site, group, age, visit, split, tuple(present.values()))
