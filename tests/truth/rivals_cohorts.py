"""Is "better than every baseline" said where the embedding knows a covariate alone, and where it truly knows more?

A study is a participants table and a store; what the page says of it is asked through the functions of ``classify
probe`` and ``reports study`` from the join to the verdict. ``python tests/truth/run.py --long rivals_cohorts``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from classify_study import Study
from classify_study import space as small_space
from kept_results import Kept
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression

from classify.baselines.covariates import choose_baselines, describe_units, predict_baselines
from classify.cohort.labels import LabelSource
from classify.cohort.table import BRIGHTNESS, Cohort
from classify.cohort.tables import read_tables
from classify.cohort.tasks import STUDY_GROUPS, find_question, find_task
from classify.fitting.model import fit_model
from classify.fitting.source import source_on
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.metrics import HEADLINE
from classify.judging.rivals import compare_with_rivals
from classify.run.predictions import Predictions
from classify.search.search import SearchPlan, choose_model
from embeddings_store.schema import FACT_COLUMNS, Eye, Note, VolumeRef, site_of, volume_id
from embeddings_store.snapshot import Snapshot
from embeddings_store.writer import open_writer
from reports.headline import confirm, hardest, judge

TASK = "healthy-vs-rest"
PEOPLE, TRAIN = 480, 320
WIDTH = 64
DEVICES = (("heidelberg_spectralis", "ppol"), ("topcon_triton", "macula"), ("zeiss_cirrus", "cube"))
TRUE = "retina"
HOLDS: Mapping[str, tuple[str, ...]] = {
    "age, U-shaped": ("age", "age+site"),
    "age, threshold": ("age", "age+site"),
    "age, another at each site": ("age+site",),
    "brightness": ("raw intensity statistics",),
    "device": ("device+protocol",),
    "frame count": ("device+protocol",),
    TRUE: ("age", "age+site"),
}
"""What the embedding knows, and the baselines that hold all of it: other baselines only make the claim rarer."""

FALSE = tuple(HOLDS)[:-1]


@dataclass(frozen=True)
class Truth:
    """A study and the effect that made its labels, on the scale of logits; one number a participant."""

    study: Study
    effect: np.ndarray
    age: np.ndarray
    label: np.ndarray
    train: np.ndarray


def draw(kind: str, seed: int, strength: float = 1.0, *, handed: bool = False) -> Truth:
    """Draw a study in which the embedding knows what ``kind`` names through 40 random curves of it, and noise.

    handed: the embedding holds the very effect as one of its channels: the hardest case for a baseline. Age has an
    effect of its own in each study of TRUE kind.
    """
    rng = np.random.default_rng([seed, len(kind), ord(kind[-1])])
    age, bright, retina = rng.normal(size=(3, PEOPLE))
    site, device = rng.integers(0, 3, PEOPLE), rng.choice(3, PEOPLE, p=[0.5, 0.3, 0.2])
    frames = rng.choice([19.0, 61.0, 97.0, 128.0], PEOPLE)
    known, effect = {
        "age, U-shaped": ([age], 1.8 * (np.abs(age) - 0.8)),
        "age, threshold": ([age], 3.0 * (age > 0.5) - 1.0),
        "age, another at each site": ([age, *np.eye(3)[site].T], np.array([2.0, -2.0, 0.0])[site] * age),
        "brightness": ([bright], 1.8 * (np.abs(bright) - 0.8)),
        "device": ([*np.eye(3)[device].T], np.array([-0.8, 1.2, 0.4])[device]),
        "frame count": ([(frames - 76) / 40], 2.0 * np.isin(frames, [61, 128]) - 1.0),
        TRUE: ([retina, age], 1.2 * age + strength * retina),
    }[kind]
    seen = np.stack(known, axis=1)
    curves = np.tanh(seen @ rng.normal(0, 1.2, (seen.shape[1], 40)) + rng.normal(0, 1, 40))
    x = np.hstack([curves, np.tile(effect[:, None], (1, 4 * handed)), np.zeros((PEOPLE, WIDTH - 40 - 4 * handed))])
    x[:, :44] += rng.normal(0, 0.1, (PEOPLE, 44))
    x[:, 44:] = rng.normal(size=(PEOPLE, WIDTH - 44))
    label = rng.random(PEOPLE) < 1 / (1 + np.exp(-effect))
    train = np.arange(PEOPLE) < TRAIN
    people = pd.DataFrame(
        {
            "participant_id": [f"{'147'[place]}{number:03d}" for number, place in enumerate(site)],
            "clinical_site": np.array(["UW", "UCSD", "UAB"])[site],
            "study_group": np.where(label, STUDY_GROUPS[2], STUDY_GROUPS[0]),
            "age": np.round(60 + 10 * age).astype(int).astype(str),
            "study_visit_date": "2023-08-01",
            "recommended_split": np.where(train, "train", "val"),
            "retinal_oct": "TRUE",
        }
    )
    stored = _store(people["participant_id"], device, frames, bright + rng.normal(0, 0.1, (5, PEOPLE)), x)
    return Truth(Study(people, stored), effect, age, label.astype(np.int64), train)


def _store(
    people: "pd.Series[str]", device: np.ndarray, frames: np.ndarray, bright: np.ndarray, x: np.ndarray
) -> Snapshot:
    devices, protocols = (np.array(names)[device] for names in zip(*DEVICES, strict=True))
    keys = [f"{one}/{person}/{scan}_L.dcm" for one, person, scan in zip(devices, people, protocols, strict=True)]
    index = pd.DataFrame(
        {
            "key": keys, "participant": people, "eye": "L", "device": devices, "protocol": protocols,
            "row": np.arange(len(keys)), "size": 1000, "etag": "", "volume": [volume_id(key) for key in keys],
            "site": [site_of(person) for person in people], "notes": int(Note.SYNTHETIC),
            "frames": frames, "rows": 16.0, "columns": 16.0, **dict(zip(BRIGHTNESS, 100 + 20 * bright, strict=True)),
        }
    )  # fmt: skip
    pooled = np.repeat(np.repeat(x[:, None, None, :], 2, 1), 2, 2).astype(np.float32)
    return Snapshot(
        pooled, index, replace(small_space(), width=WIDTH), 1, ("1", "last"), ("mean", "max"), "snapshot", "snapshot 1"
    )


@dataclass(frozen=True)
class Said:
    """The verdict of the page, the baseline that it names, and the paired difference to it."""

    verdict: str
    rival: str
    difference: float


def join(truth: Truth) -> Cohort:
    """Join the store with the table, as every command does."""
    with TemporaryDirectory() as folder:
        tables = read_tables(LabelSource(truth.study.write(Path(folder))), find_question(TASK), tell=lambda _: None)
    return tables.join(truth.study.stored)


def fill(truth: Truth, url: Path) -> None:
    """Put the vectors and facts into a real store, for the command line."""
    index = truth.study.stored.index.set_index("key")
    facts = index.reindex(columns=FACT_COLUMNS).assign(eye=1.0, spacing_source=0.0).astype(np.float64)
    refs = [
        VolumeRef(str(key), 1000, "", line.volume, line.participant, Eye.LEFT, line.device, line.protocol)
        for key, line in zip(index.index, index.itertuples(), strict=True)
    ]
    writer = open_writer(str(url), truth.study.stored.space, capacity=1000, worker={"device": "test"})
    writer.add_volumes(refs)
    vector_of = dict(zip(index.index, truth.study.stored.pooled, strict=True))
    for line in writer.missing_rows():
        key = line.ref.key
        writer.write_row(line.row, vector_of[key], {}, facts.loc[key].to_numpy(), bytes(16), 1000)


def ask(truth: Truth, *, replicates: int = 500, names: Sequence[str] = ()) -> Said:
    """Fit a head with the defaults, and say what the page would say. names: baselines; all that can be made if none."""
    cohort = join(truth)
    source = source_on(cohort, truth.study.stored)
    spec = choose_model(SearchPlan("linear"), source.only("train"), runs=Path(), facts={}, tell=lambda _: None).spec
    rows = source.table(spec.features)
    model = fit_model(spec, rows.only("train"), classes=2, seed=0)
    ours = model.predict(rows.only("val"), classes=2, split="val")["participant"]
    return verdict_of(ours, describe_units(cohort, "train"), describe_units(cohort, "val"), replicates, names)


def verdict_of(
    ours: Predictions, train: pd.DataFrame, val: pd.DataFrame, replicates: int, names: Sequence[str]
) -> Said:
    """Compare with the named baselines, or every one that the people allow."""
    classes = find_task(TASK).classes
    names = names or choose_baselines(find_task(TASK), train, val)[0]
    others = predict_baselines(find_task(TASK), train, val, split="val", names=names)
    drawn = draw_replicates(ours.participant, replicates=replicates, seed=0)
    own, values = measure(ours, drawn, classes)
    against = {name: measure(part, drawn, classes)[1] for name, part in others.items()}
    found = compare_with_rivals(values, against, ours, classes)
    rivals = {}
    for name, of in found.items():
        one = of[HEADLINE[0]]
        high = max([*one.ends[1:], *list(one.simultaneous.values())[1:]], default=None)
        rivals[name] = replace(one, high=high)
    rival = hardest(rivals)
    first = judge(own[HEADLINE[0]], rivals[rival], chance=0.5)
    verdict = confirm(first, {name: of[HEADLINE[1]] for name, of in found.items()})
    return Said(verdict, rival, rivals[rival].value or 0.0)


def oracle_finds(truth: Truth) -> bool:
    """Ask what no page can: does the true effect add to age, by a likelihood-ratio test on val (5 %)?"""
    val = ~truth.train
    label, known = truth.label[val], np.stack([truth.age, truth.effect], axis=1)[val]
    fits = [LogisticRegression(C=1e6).fit(x, label).predict_proba(x) for x in (known[:, :1], known)]
    less, more = (np.log(fit[np.arange(len(label)), label]).sum() for fit in fits)
    return bool(2 * (more - less) > chi2.ppf(0.95, 1))


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table. Seeds are those that no choice of the method has seen."""
    yield "| the embedding knows | studies | called better | worse | mean difference to the hardest |"
    yield "|---|---|---|---|---|"
    for kind in filter(kept.wants, FALSE):
        seeds = range(30_000, 30_100 if long else 30_003)
        yield line_of(f"{kind}: nothing to add", [_study(kept, kind, seed, handed=True) for seed in seeds])
    for strength in filter(lambda one: kept.wants(f"{TRUE} {one}"), (0.7, 1.2, 1.8)):
        seeds = range(40_000, 40_100 if long else 40_003)
        studies = [_study(kept, TRUE, seed, strength) for seed in seeds]
        found = sum(one["oracle"] for one in studies)
        yield line_of(f"{TRUE}, log odds {strength} a standard deviation (an oracle finds {found})", studies)


def line_of(name: str, studies: Sequence[Mapping[str, Any]]) -> str:
    """Give one line of the table."""
    better, worse = (sum(one["verdict"] == verdict for one in studies) for verdict in ("better", "worse"))
    mean = np.mean([one["difference"] for one in studies])
    return f"| {name} | {len(studies)} | {better} | {worse} | {mean:+.3f} |"


def _study(kept: Kept, kind: str, seed: int, strength: float = 1.0, *, handed: bool = False) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        truth = draw(kind, seed, strength, handed=handed)
        return asdict(ask(truth, names=HOLDS[kind])) | {"oracle": oracle_finds(truth)}

    found: dict[str, Any] = kept.of(f"{kind}, {strength}, {seed}", measure)
    return found
