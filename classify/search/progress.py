"""How far a search is: a line on stderr that a terminal redraws; nothing elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embeddings_store.terminal.console import is_watched

Advance = Callable[[float | None], None]
"""Called after each trial with the best score so far."""


@contextmanager
def show_trials(done: int, total: int | None) -> Iterator[Advance]:
    """Show "trial n of N", the best score and the time left; total None: there is a limit of minutes only."""
    if not is_watched():
        yield _say_nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("trial"), MofNCompleteColumn(), BarColumn(), TextColumn("best {task.fields[best]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("search", total=total, completed=done, best="none yet")

        def advance(best: float | None) -> None:
            progress.update(task, advance=1, best="none yet" if best is None else f"{best:.3f}")

        yield advance


def _say_nothing(best: float | None) -> None:
    del best
