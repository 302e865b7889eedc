"""What pages say of the locked test split: how often its people were looked at, and who stands otherwise now."""

from collections.abc import Callable, Sequence
from pathlib import Path

from classify.cohort.splitting import say_shared
from classify.run.earlier import EarlierRun, find_earlier, find_looks
from classify.run.ledger import LedgerLine
from embeddings_store.terminal.console import say
from reports.runs import FinishedRun

NO_DATE = "a day that nothing names"


def read_looks(runs_dir: Path, runs: Sequence[FinishedRun], *, tell: Callable[[str], None] = say) -> list[LedgerLine]:
    """Give every look that saw a test participant of these runs, whatever the task or table, oldest first.

    A run with numbers of test counts once at least. Raises: RunError where a whole line of a ledger is damaged.
    """
    earlier = find_earlier(runs_dir, tell)
    looks: dict[tuple[str, str], LedgerLine] = {}
    for run in runs:
        people = EarlierRun(run.record, run.run.cohort).analysed_test
        cohort = run.record.cohort.cohort_sha256
        looks |= {line.key: line for line in find_looks(runs_dir, people, cohort, earlier)}
    return sorted(looks.values(), key=lambda line: line.date)


def say_looks(looks: Sequence[LedgerLine]) -> str:
    """Write "never", or how often and by which runs; to be followed by COUNTED_HERE."""
    if not looks:
        return "never"
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    return f"{times} ({'; '.join(f'{look.run} on {look.date[:10] or NO_DATE}' for look in looks)})"


def say_resplits(runs: Sequence[FinishedRun]) -> list[str]:
    """Say of each run whose people stood otherwise in earlier ones what changed, and the reason that was given.

    So, too, of a published split that shares people, which was asked for all the same.
    """
    shared = [f"Run {run.id}: {said}." for run in runs if (said := say_shared(run.record.cohort.splits_from))]
    return shared + [
        f"Run {run.id}: {told['why']}. Reason given: {told['reason']}."
        for run in runs
        if (told := run.record.cohort.resplit)
    ]
