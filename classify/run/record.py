"""What a run says of itself: frozen parts, each made by the function that knows it, and one way to and from run.json.

In run.json the fields of all parts stand side by side: ``record.cohort.splits`` is its "splits". Class names are in
clinical order; times in UTC; seconds by stage. Fields with a default may be missing in older records.
"""

from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, with_config
from typing_extensions import TypedDict

from classify.cohort.splits import OUT_OF_FOLD
from classify.model_files import read_object
from classify.run.estimate import Estimate, Measures, lift
from classify.run.typed_record import parse_record, plain

RECORD = "run.json"
MOST_CLASSES = 1000
EXTERNAL = "external"
"""Kind of an evaluation on people of another place; their splits are called external-1a2b3c4d, by their digest."""

Count = Annotated[int, Field(ge=0)]
Open = dict[str, Any]
"""What a head, a search or a calibration says of itself in words of its own; it is shown, and given back to it."""

Judged = Annotated[Open, BeforeValidator(lift)]
"""As Open, and what is measured in it is an Estimate."""

OPEN = ConfigDict(extra="allow")


@with_config(OPEN)
class SplitSize(TypedDict):
    """How many a split has; per_class: judged units; participants_per_class: where several are of one participant."""

    participants: NotRequired[Count]
    eyes: NotRequired[Count]
    volumes: NotRequired[Count]
    per_class: NotRequired[dict[str, Count]]
    participants_per_class: NotRequired[dict[str, Count]]


@with_config(OPEN)
class FlowStep(TypedDict):
    """A line of the flow of volumes and participants. kind: total, excluded, note or mended."""

    step: str
    kind: str
    volumes: NotRequired[int]
    participants: NotRequired[int]
    reason: NotRequired[str]


@with_config(OPEN)
class SnapshotRead(TypedDict):
    """Which snapshot of the store was read, or why none was; numbers: of each of several stores, by name."""

    number: NotRequired[int | str]
    numbers: NotRequired[dict[str, int]]
    rows: NotRequired[Count]
    note: NotRequired[str]


@with_config(OPEN)
class FeaturesSeen(TypedDict):
    """What the head saw, and how scans became participants."""

    layer: NotRequired[str]
    pools: NotRequired[list[str]]
    token_grid: NotRequired[list[int] | None]
    views: NotRequired[Count]
    mirror: NotRequired[bool]
    aggregation: NotRequired[str]
    aggregation_learned: NotRequired[Open]
    standardise: NotRequired[str]
    dimensions: NotRequired[Count]
    constant: NotRequired[Count]


class Missing(TypedDict):
    """A baseline that could not be made, and why."""

    name: str
    reason: str


@with_config(OPEN)
class Evaluation(TypedDict):
    """One look at the test split or, of kind external, at people of another place (see evaluating.external)."""

    date: str
    kind: NotRequired[str]
    cohort_sha256: NotRequired[str]
    people: NotRequired[dict[str, list[str]]]
    place: NotRequired[Open]
    sizes: NotRequired[SplitSize]
    absent_classes: NotRequired[list[str]]
    judged: NotRequired[Judged]
    transport: NotRequired[Annotated[Open | Estimate, BeforeValidator(lift)]]
    recalibration: NotRequired[Judged]
    novelty: NotRequired[list[Open]]
    baselines_missing: NotRequired[list[Missing]]
    split: NotRequired[str]
    id: NotRequired[str]
    look: NotRequired[Count]
    seed: NotRequired[int]
    command: NotRequired[list[str]]
    replicates: NotRequired[Count]
    measurements: NotRequired[Open]
    table_notes: NotRequired[list[str]]
    calibration: NotRequired[str | None]
    uncalibrated: NotRequired[Open]
    probabilities: NotRequired[Judged | None]
    confusion: NotRequired[dict[str, list[list[Count]]]]
    difference_to_age_site: NotRequired[Measures]
    added_to_age_site: NotRequired[Measures]
    difference_to_baselines: NotRequired[dict[str, Measures]]
    difference_to_random_twin: NotRequired[Measures]
    failures: NotRequired[dict[str, Count]]


class Resplit(TypedDict):
    """Why people of earlier runs stand otherwise here. reason: as the user gave it."""

    reason: str
    why: str
    was_test: NotRequired[Count]
    changed: NotRequired[Count]


@dataclass(frozen=True)
class Provenance:
    """When and by what it was made. inputs_sha256: see digest_inputs. model_sha256: of each file of a model folder."""

    created: str = ""
    command: list[str] = field(default_factory=list)
    inputs_sha256: str = ""
    seeds: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model_sha256: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """The question, and the vectors that it was asked of. encoder_source: None where the store does not say.

    encoding_cost: what it took to encode the store, None where it was not recorded.
    classes: [] where a number is asked for.
    """

    task: str
    classes: Annotated[list[str], Field(max_length=MOST_CLASSES)]
    space: str
    phantom: StrictBool
    task_definition: Open = field(default_factory=dict)
    embedding_space: Open = field(default_factory=dict)
    encoder_source: Open | None = None
    snapshot: SnapshotRead = field(default_factory=SnapshotRead)
    encoding_cost: Open | None = None


@dataclass(frozen=True)
class CohortFacts:
    """Whose volumes. class_weights: what a participant of each class weighs when the head is fitted.

    test_people: all test people of the participants table, see People. near_copies_allowed: of Vouched. pretraining:
    how many of each split the encoder has seen, and {split: the result without them}. table_notes: what was mended.
    splits_from: kind (column, made or kept), and the column, or the file and how it was made; {}: folds alone.
    """

    cohort_sha256: str
    splits: dict[str, SplitSize]
    flow: list[FlowStep] = field(default_factory=list)
    class_weights: dict[str, float] = field(default_factory=dict)
    measurements: Open = field(default_factory=dict)
    pretraining: Judged = field(default_factory=dict)
    table_notes: list[str] = field(default_factory=list)
    near_copies_allowed: Open = field(default_factory=dict)
    test_people: dict[str, list[str]] = field(default_factory=dict)
    splits_from: Open = field(default_factory=dict)
    resplit: Resplit | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What was fitted, and what was asked of it beyond val. calibration: method, parameters, before and after on val.

    probes_of_nuisance: how well site, device, protocol, eye and age are guessed from the features. robustness: one line
    a site or device left out, where asked for. seed_sensitivity: val again with other seeds of the final fit.
    cross_validation: of a run without a split its folds, one line each; the model then is fitted on everybody.
    """

    model: str
    features: FeaturesSeen = field(default_factory=FeaturesSeen)
    parameters: Open = field(default_factory=dict)
    search: Judged | None = None
    calibration: Judged | None = None
    probes_of_nuisance: list[Judged] = field(default_factory=list)
    robustness: dict[str, list[Judged]] | None = None
    seed_sensitivity: Open | None = None
    cross_validation: Judged | None = None


@dataclass(frozen=True)
class Judgement:
    """Metrics by level, split and metric; baselines, contrasts, p-values and curves of participants by split.

    difference_to_baselines: minus each rival, by its name, on val (see compare_with_rivals). added_to_age_site:
    embedding+age+site minus age+site, on val. subgroups: one line a group.
    """

    metrics: dict[str, dict[str, Measures]]
    confusion: dict[str, list[list[Count]]] = field(default_factory=dict)
    baselines: dict[str, dict[str, Measures]] = field(default_factory=dict)
    difference_to_age_site: Measures = field(default_factory=dict)
    added_to_age_site: Measures = field(default_factory=dict)
    difference_to_baselines: dict[str, Measures] = field(default_factory=dict)
    contrasts: dict[str, dict[str, Measures]] = field(default_factory=dict)
    permutation: dict[str, Judged] = field(default_factory=dict)
    decision_curves: dict[str, dict[str, Open]] = field(default_factory=dict)
    subgroups: dict[str, list[Judged]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rivals:
    """What stood beside the model, or could not. difference_to_random_twin: on val; random_twin: what it is.

    stores: of a run on several stores what each gives alone and all on average, see EachStore.
    """

    baselines_missing: list[Missing] = field(default_factory=list)
    difference_to_random_twin: Measures = field(default_factory=dict)
    random_twin: Open | None = None
    stores: Judged | None = None


@dataclass(frozen=True)
class RunRecord:
    """The record of a run. evaluations: one entry a look of this run, at test or at people of another place."""

    id: str
    made: Provenance
    asked: Asked
    cohort: CohortFacts
    fitted: ModelFacts
    judged: Judgement
    rivals: Rivals = Rivals()
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def looks_at_test(self) -> list[Evaluation]:
        """The looks of this run at its own test split."""
        return [entry for entry in self.evaluations if entry.get("kind") != EXTERNAL]

    @property
    def looks_outside(self) -> list[Evaluation]:
        """The looks of this run at people of other places."""
        return [entry for entry in self.evaluations if entry.get("kind") == EXTERNAL]

    @property
    def is_crossed(self) -> bool:
        """Whether everybody was judged out of fold: such a run has no val and no test."""
        return self.fitted.cross_validation is not None

    @property
    def judged_split(self) -> str:
        """Name of the split that the run itself judged."""
        return OUT_OF_FOLD if self.is_crossed else "val"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of run.json, in plain JSON types."""
        tree = {name: plain(getattr(getattr(self, of), name)) for of, names in part_fields().items() for name in names}
        return {"id": self.id, **tree, "evaluations": plain(self.evaluations)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any], name: str) -> "RunRecord":
        """Read the fields of run.json. name: of the run, for the message. Raises: RunFolderError, in one line."""
        parts = {part: {one: raw[one] for one in names if one in raw} for part, names in part_fields().items()}
        whole = {one: raw[one] for one in ("id", "evaluations") if one in raw}
        return parse_record(cls, parts | whole, f"run folder {name}: {RECORD}", unnamed=part_fields())


@cache
def part_fields() -> dict[str, tuple[str, ...]]:
    """Return the fields of each part of a record, by the part's name."""
    parts = {"made": Provenance, "asked": Asked, "cohort": CohortFacts}
    parts |= {"fitted": ModelFacts, "judged": Judgement, "rivals": Rivals}
    return {name: tuple(one.name for one in fields(part)) for name, part in parts.items()}


def read_record(folder: Path) -> RunRecord:
    """Return the record of a run folder. Raises: RunFolderError where it is missing, unfinished or damaged."""
    return RunRecord.from_dict(read_object(folder / RECORD), folder.name)
