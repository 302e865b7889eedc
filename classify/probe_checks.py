"""What the options of a probe may be, checked before anything is read or as soon as the store is known."""

from classify.fitting.source import FeatureSource
from classify.heads import HEADS
from classify.heads.device import find_device
from classify.options import ProbeOptions
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


def count_views(model: str, asked: int | None, source: FeatureSource) -> int:
    """Say how many augmented views of each volume are learned from; patch tokens and bags of scans have none."""
    head = HEADS[model]
    stored = 0 if head.reads_tokens or head.pools_scans else source.space.view_count
    if asked and not stored:
        raise UsageError(f"--views {asked}: {model} and this store have no augmented views to learn from")
    return stored if asked is None else asked
