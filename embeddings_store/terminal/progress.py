"""A bar on stderr while rows are gone through, for a person at a terminal; a log gets none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embeddings_store.terminal.console import is_watched

Progress = Callable[[int, int], None]
"""Hears the rows that are done, and how many there are."""


def no_progress(_done: int, _total: int) -> None:
    """Report to nobody."""


@contextmanager
def row_bar(words: str) -> Iterator[Progress]:
    """Show a bar until the block ends; nothing where stderr is no terminal."""
    if not is_watched():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
