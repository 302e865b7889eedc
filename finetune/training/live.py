"""What a person sees: within an epoch a bar on a terminal or a line every few seconds in a log, and a line after it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from jaxtyping import Float
from torch import Tensor

from embeddings_store.terminal.console import is_watched
from embeddings_store.terminal.sparkline import sparkline
from finetune.training.epochs import Epoch

SECONDS_TO_FIRST_LINE = 3.0
SECONDS_BETWEEN_LINES = 10.0


class LiveEpoch:
    """Counts the steps of one epoch, and tells loss, speed and the time left now and then."""

    def __init__(
        self,
        name: str,
        steps: int,
        show: Callable[[str, int], None],
        *,
        first_after: float = SECONDS_TO_FIRST_LINE,
        then_after: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._name, self._steps, self._show, self._clock = name, steps, show, clock
        self._then_after = then_after
        self._start = clock()
        self._due = self._start + first_after
        self._volumes = 0
        self._done = 0

    def advance(self, step: int, volumes: int, mean_loss: Callable[[], float]) -> None:
        """Count a step; mean_loss is only asked when something is shown, as the device must be waited for."""
        self._volumes += volumes
        self._done += 1
        now = self._clock()
        if now < self._due:
            return
        self._due = now + self._then_after
        elapsed = max(now - self._start, 1e-9)
        left = (self._steps - step) * elapsed / self._done
        self._show(
            f"{self._name}: step {step:,} of {self._steps:,}, train loss {mean_loss():.4f}, "
            f"{self._volumes / elapsed:.2f} volumes/s, {_clock(left)} left",
            step,
        )


@contextmanager
def show_epoch(name: str, steps: int, tell: Callable[[str], None]) -> Iterator[LiveEpoch]:
    """Show an epoch of a stage: a bar when stderr is a terminal, else lines through ``tell``."""
    if not is_watched():
        yield LiveEpoch(name, steps, lambda line, _: tell(line))
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=steps)
        yield LiveEpoch(
            name, steps, lambda line, step: bar.update(task, completed=step, description=line), first_after=0.2,
            then_after=0.2,
        )  # fmt: skip


def mean_of(total: Float[Tensor, ""], volumes: int) -> Callable[[], float]:
    """Put off the division, and with it the wait for the device."""
    return lambda: float(total.cpu()) / max(volumes, 1)


class Pace:
    """How long the epochs of a stage take, those of this process."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock, self._start, self._epochs = clock, clock(), 0

    def left_s(self, epochs: int) -> float:
        """Count an epoch that has ended, and give the seconds that so many more will take."""
        self._epochs += 1
        return epochs * (self._clock() - self._start) / self._epochs


def describe_epoch(history: Sequence[Epoch], best: Epoch, epochs: int, left_s: float) -> str:
    """Say in a line what the last epoch of the history gave, which one is best so far, and how long its stage may last.

    On a terminal a small curve of the stage's balanced accuracy ends the line.
    """
    epoch = history[-1]
    standing = "best so far" if best == epoch else f"best so far {_accuracy(best)}, {best.stage} {best.epoch}"
    curve = sparkline([one.val_balanced_accuracy for one in history if one.stage == epoch.stage])
    left = f"; at most {_clock(left_s)} left of stage {epoch.stage}" if epoch.epoch < epochs else ""
    return (
        f"{epoch.stage} {epoch.epoch}/{epochs}: train loss {epoch.train_loss:.4f}; participants of val: balanced "
        f"accuracy {_accuracy(epoch)}, log-loss {epoch.val_log_loss:.4f} ({standing}){left}{curve and f' {curve}'}"
    )


def _accuracy(epoch: Epoch) -> str:
    return "absent" if epoch.val_balanced_accuracy is None else f"{epoch.val_balanced_accuracy:.3f}"


def _clock(seconds: float) -> str:
    return "{} min {} s".format(*divmod(round(seconds), 60))
