"""What the options of a probe may be, checked before anything is read or as soon as the store is known."""

from classify.cohort.questions import Task
from classify.cohort.table import Cohort
from classify.errors import CohortError
from classify.fitting.aggregate import MEAN_LOGITS
from classify.fitting.model import aggregations_of
from classify.fitting.source import FeatureSource
from classify.heads import HEADS, NUMBER_HEADS, find_head
from classify.heads.device import find_device
from classify.judging.calibrate import AUTO as AUTO_CALIBRATION
from classify.options import ProbeOptions
from classify.search.folds import FEWEST_NUMBERS
from classify.search.spaces import AUTO
from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid


def check_device(name: str) -> None:
    """Raises: UsageError for an unknown device, or one that is not there."""
    try:
        find_device(name)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def check_crossed(options: ProbeOptions) -> None:
    """Raises: UsageError where a cross-validation is asked for what needs a val split, or is one already."""
    needs = {
        "--nested": (options.nested, "the whole search is inside each fold already"),
        "--robustness": (options.robustness, "it leaves places out of train and judges on val"),
        "--seeds": (options.seeds > 1, "it judges fits with other seeds on val"),
        "--random-twin": (options.random_twin is not None, "compare two cross-validated runs in its place"),
    }
    for option, (given, why) in needs.items():
        if given:
            raise UsageError(f"{option}: a cross-validation has no val split; leave it out: {why}")


def check_tokens(model: str, pools: tuple[str, ...], token_grid: Grid | None) -> None:
    """Raises: UsageError where a head that reads tokens is given pools, or another one a token grid."""
    if HEADS[model].reads_tokens and pools != (AUTO,):
        raise UsageError(
            f"--pool: {model} reads patch tokens, which are not pooled; leave --pool out, or give --token-grid"
        )
    if token_grid and not HEADS[model].reads_tokens:
        readers = ", ".join(name for name, head in HEADS.items() if head.reads_tokens)
        raise UsageError(f"--token-grid: {model} reads pooled vectors; patch tokens are read by {readers}")


def rivals_of(pools: tuple[str, ...], aggregate: str, source: FeatureSource) -> list[str]:
    """Name the heads that auto chooses among: those that these features can be read by.

    Tokens where the store has them and no pool is asked for; bags of scans where somebody has several; an order of
    classes where there are more than two.
    """
    table = source.cohort.table
    several = len(set(source.cohort.unit.tolist())) < len(table)

    def fits(name: str) -> bool:
        head = HEADS[name]
        return (
            (name != "ordinal" or source.cohort.task.is_ordered)
            and (not head.pools_scans or several)
            and (not head.reads_tokens or (source.space.token_grid is not None and pools == (AUTO,)))
            and (aggregate in (AUTO, MEAN_LOGITS) or aggregate in aggregations_of(name))
        )

    known = NUMBER_HEADS if source.cohort.task.is_number else HEADS
    return [name for name in known if name != "dummy" and fits(name)]


def count_views(model: str, asked: int | None, source: FeatureSource) -> int:
    """Say how many augmented views of each volume are learned from; patch tokens and bags of scans have none."""
    head = HEADS[model]
    stored = 0 if head.reads_tokens or head.pools_scans else source.space.view_count
    if asked and not stored:
        raise UsageError(f"--views {asked}: {model} and this store have no augmented views to learn from")
    return stored if asked is None else asked


def check_kind(task: Task, options: ProbeOptions) -> Task:
    """Give the task back where the options can answer it. Raises: UsageError for what a number does not have."""
    if not task.is_number:
        return task
    if options.model != AUTO:
        find_head(options.model, number=True)
    if options.calibrate not in ("none", AUTO_CALIBRATION):
        raise UsageError(
            f"--calibrate {options.calibrate}: that is for probabilities of classes, and {task.target} is a number; "
            f"expected {AUTO_CALIBRATION} (a shift and a slope) or none"
        )
    if options.prevalence is not None:
        raise UsageError(f"--prevalence: {task.target} is a number, which has no class shares; leave it out")
    return task


def check_learnable(cohort: Cohort) -> None:
    """Raises: CohortError where train has too few people, or one value alone, to learn a number from."""
    if not cohort.task.is_number:
        return
    train = cohort.units("train")
    people, target = train["participant"].nunique(), cohort.task.target
    if people < FEWEST_NUMBERS:
        raise CohortError(
            f"train: {people} participants have a {target}; it takes at least {FEWEST_NUMBERS} to learn a number"
        )
    if train["label"].nunique() < 2:
        raise CohortError(f"train: {target} is {train['label'].iloc[0]:g} for everybody; there is nothing to learn")
