"""Is a site or device called leaned on where no confound is, and is a planted confound found?

A study is a cohort's table and its features, given to ``leave_one_out``, which makes the lines of the page. Sites and
devices are of unequal size; people have one or two eyes and one to three devices.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from classify_study import space
from kept_results import Kept

from classify.cohort.table import Cohort
from classify.cohort.tasks import TASKS
from classify.fitting.model import fit_model
from classify.fitting.source import FeatureSource
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.metrics import HEADLINE
from classify.judging.robustness import leave_one_out
from classify.run.estimate import Estimate
from classify.search.search import SearchPlan, choose_model
from reports.sections import leans

PEOPLE, WIDTH = 480, 24
SITES, DEVICES = np.array(["UW", "UCSD", "UAB"]), np.array(["a", "b", "c"])


@dataclass(frozen=True)
class Kind:
    """prevalence: of each site. retina: effect on the embedding. offset: between sites' looks, in standard deviations.

    marked_site, marked_device: how far scans of the ill lie apart at UCSD alone, or on device b alone.
    offset_device: of scans of device b. own_device: share of people of whom the ill have scans of device b alone, and
    the healthy none of it.
    people: two thirds of them are train.
    """

    prevalence: tuple[float, float, float] = (0.4, 0.4, 0.4)
    retina: float = 0.8
    offset: float = 0.0
    marked_site: float = 0.0
    marked_device: float = 0.0
    offset_device: float = 0.0
    own_device: float = 0.0
    people: int = PEOPLE


UNEQUAL = (0.15, 0.5, 0.85)
HONEST = {
    "nothing": Kind(),
    "a weak effect": Kind(retina=0.5),
    "sites look different": Kind(offset=1.5),
    "prevalence differs, not known": Kind(prevalence=UNEQUAL),
}
CONFOUNDED = {
    "class goes with the site, no other effect": Kind(UNEQUAL, retina=0.0, offset=1.5),
    "the ill are marked at one site": Kind(marked_site=3.0),
    "the ill are marked on one device": Kind(marked_device=3.0),
    **{
        f"as in a phantom, class goes with the {by}, {people} people": replace(kind, people=people)
        for by, kind in (
            ("site", Kind((0.36, 0.9, 0.86), retina=0.0, offset=1.5)),
            ("device", Kind(retina=0.0, offset_device=1.5, own_device=0.7)),
        )
        for people in (160, 480, 1920)
    },
}


def draw(kind: Kind, seed: int) -> FeatureSource:
    """Draw a cohort of two classes; sites hold 50, 30 and 20 % of people, devices scanned 80, 60 and 40 % of them."""
    people = kind.people
    rng = np.random.default_rng([seed, int(100 * sum(astuple(kind)[1:5]))])
    site = rng.choice(3, people, p=[0.5, 0.3, 0.2])
    label = (rng.random(people) < np.array(kind.prevalence)[site]).astype(np.int64)
    has = rng.random((people, 3)) < [0.8, 0.6, 0.4]
    if kind.own_device:
        bound = rng.random(people) < kind.own_device
        has[bound] = (np.arange(3) == 1) == label[bound, None]
    has[~has.any(axis=1), 0] = True
    eyes = rng.integers(1, 3, people)
    scans = [(p, d, e) for p in range(people) for e in range(eyes[p]) for d in np.flatnonzero(has[p])]
    person, device, eye = np.array(scans).T
    own = rng.normal(size=(people, WIDTH))
    own[:, 0] += kind.retina * label
    own[:, 1] += kind.offset * site + kind.marked_site * label * (site == 1)
    x = own[person] + rng.normal(0, 0.7, (len(person), WIDTH))
    x[:, 2] += (kind.marked_device * label[person] + kind.offset_device) * (device == 1)
    table = pd.DataFrame(
        {
            "volume": [f"v{number:06d}" for number in range(len(person))],
            "participant": np.array([f"{number:04d}" for number in range(people)])[person],
            "eye": np.array(["L", "R"])[eye], "device": DEVICES[device], "protocol": "p", "site": SITES[site][person],
            "age": 60.0, "label": label[person], "split": np.where(3 * person < 2 * people, "train", "val"),
        }
    )  # fmt: skip
    cohort = Cohort(table, np.arange(len(table)), TASKS["healthy-vs-rest"], True)
    pooled = np.repeat(np.repeat(x[:, None, None, :], 2, 1), 2, 2).astype(np.float32)
    return FeatureSource(cohort, pooled, space(), None)


def said_of(kind: Kind, seed: int, *, replicates: int = 300) -> set[str]:
    """Name what the page says of one study: "site macro_auroc" for a line below 0, "leans on the site" in words."""
    source = draw(kind, seed)
    task = source.cohort.task
    spec = choose_model(SearchPlan("linear"), source.only("train"), runs=Path(), facts={}, tell=lambda _: None).spec
    rows = source.table(spec.features)
    model = fit_model(spec, rows.only("train"), classes=2, seed=0)
    found = leave_one_out(model, rows, source.cohort.table, task.classes, replicates=replicates, seed=seed)
    below = {
        f"{by} {metric}"
        for by, lines in found.items()
        for line in lines
        for metric in HEADLINE
        if max(line.get("beyond_chance", {}).get(metric, Estimate()).interval, default=0.0) < 0
    }
    people = model.predict(rows.only("val"), classes=2, split="val")["participant"]
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    overall = measure(people, drawn, task.classes)[0]["macro_auroc"]
    return below | {f"leans on the {by}" for by, lines in found.items() if leans(overall, lines)}


WORDS = ("site balanced_accuracy", "site macro_auroc", "device balanced_accuracy", "device macro_auroc")
LEANS = ("leans on the site", "leans on the device")


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table. Seeds are those that no choice of the method has seen."""
    yield "| planted | studies | " + " | ".join((*WORDS, *LEANS)).replace("_", " ") + " |"
    yield "|---|---|" + "---|" * len((*WORDS, *LEANS))
    for kinds, studies in ((HONEST, 50 if long else 3), (CONFOUNDED, 20 if long else 3)):
        for name, kind in kinds.items():
            if not kept.wants(name):
                continue
            said = [
                kept.of(f"{name} {seed}", lambda kind=kind, seed=seed: sorted(said_of(kind, 70_000 + seed)))
                for seed in range(studies)
            ]
            counts = [sum(words in one for one in said) for words in (*WORDS, *LEANS)]
            yield f"| {name} | {studies} | " + " | ".join(map(str, counts)) + " |"
