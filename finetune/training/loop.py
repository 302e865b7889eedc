"""The training loop: epochs of one stage, each judged on the participants of val, resumable after any step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float

from classify.fitting.aggregate import aggregate_levels, from_probability
from classify.heads.contract import softmax
from classify.judging.metrics import all_metrics
from classify.run.predictions import Predictions, judged_of
from extract.device.backend import Backend
from extract.device.compiled import CompileMode
from extract.stop import StopRequest, exit_code_of
from finetune.data.feeds import Feed, LabelledBatch, VolumeFeed
from finetune.data.sampling import Draw, draw_epoch
from finetune.errors import DivergedError, StoppedError
from finetune.model.blocks import dropping_paths, recomputing
from finetune.model.compiling import compiling
from finetune.model.network import MODEL_NAME, VolumeClassifier
from finetune.parallel.processes import Processes
from finetune.parallel.sharing import Parallel, Sharded, start_parallel
from finetune.recipe.config import EncoderStage, FinetuneConfig
from finetune.recipe.stage_names import STAGES
from finetune.training.epochs import METRIC, BestWeights, Epoch, has_stalled
from finetune.training.live import Pace, describe_epoch, mean_of, show_epoch
from finetune.training.resume import Position, Saved, StateFolder, collect_tensors, restore_optimiser
from finetune.training.stages import new_optimiser, reached_share, schedule_factor, set_rates
from finetune.training.step import seeded, take_step, telling_what_fits


@dataclass(frozen=True)
class Trainer:
    """What all stages share.

    tell: hears of every epoch, in words. watch: sees the epochs so far, and may stop the training by an exception.
    state: where training is kept for a resume, None: nowhere. stop: asks the training to end after the step at hand.
    compiled: whether torch.compile is used where volumes pass through the encoder; see extract.device.compiled.
    """

    model: VolumeClassifier
    config: FinetuneConfig
    classes: int
    seed: int
    backend: Backend
    processes: Processes
    best: BestWeights
    tell: Callable[[str], None]
    watch: Callable[[Sequence[Epoch]], None] = lambda _: None
    state: StateFolder | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    compiled: CompileMode = "off"

    def is_asked_to_stop(self) -> bool:
        """Say whether any process was, to all of them alike."""
        return any(self.processes.compare(self.stop.name is not None))


class AskedToStop(Exception):  # noqa: N818 - no error: what was asked for
    """Ends a step's or a prediction's work; who catches it saves the state."""


def train_stage(
    trainer: Trainer, name: str, train: Feed, val: Feed, history: Sequence[Epoch], saved: Saved | None = None
) -> list[Epoch]:
    """Train what requires gradients for the epochs of a stage; ``trainer.best`` sees every epoch.

    history: epochs of earlier stages. saved: a state within this stage to go on from.
    Raises: DivergedError where the loss or what is judged is not finite, RunError where memory does not suffice,
    StoppedError.
    """
    stage, config = trainer.config.stages.find(name), trainer.config
    position = Position(name, history=tuple(history))
    if saved is not None:
        trainer.model.load_state_dict(dict(saved.tensors.model))
        position = saved.position
    parallel = start_parallel(trainer.model, config.parallel, trainer.processes, shared=train.shared)
    optimiser = new_optimiser(parallel.model, stage, compiled=trainer.backend.static_shapes)
    if saved is not None:
        restore_optimiser(parallel.model, optimiser, saved.tensors.optimiser)
        position = position if trainer.processes.rank == 0 or parallel.size == 1 else replace(position, loss=0.0)
    trainer = replace(trainer, model=parallel.model)
    with ExitStack() as during:
        on = bool(config.recompute) and isinstance(stage, EncoderStage)
        during.enter_context(recomputing(trainer.model.encoder, on=on, backend=trainer.backend))
        if isinstance(stage, EncoderStage):
            during.enter_context(dropping_paths(trainer.model.encoder, stage.drop_path))
        if isinstance(train, VolumeFeed):
            mode = "off" if isinstance(parallel, Sharded) else trainer.compiled
            during.enter_context(compiling(trainer.model, trainer.backend, mode, trainer.tell))
        pace = Pace()
        while position.epoch <= stage.epochs and not has_stalled(_of_stage(position.history, name), stage.patience):
            train_loss, ended = _run_epoch(trainer, parallel, optimiser, train, position)
            with _stopping_at(trainer, ended, optimiser):
                epoch = _judge_epoch(trainer, position, train_loss, val, optimiser)
            trainer.best.offer(epoch, trainer.model)
            trainer.backend.launch()  # or the copies of the weights would make another program of the next step
            position = Position(name, position.epoch + 1, history=(*position.history, epoch))
            left_s = pace.left_s(stage.epochs - epoch.epoch)
            trainer.tell(describe_epoch(position.history, trainer.best.epoch or epoch, stage.epochs, left_s))
            _save(trainer, position, optimiser)
            trainer.watch(position.history)
    return list(position.history)


def predict(trainer: Trainer, feed: Feed) -> dict[str, Predictions]:
    """Predict every row of a split, per volume, eye and participant; each process does its share.

    Raises: DivergedError where the model's answers are not finite: softmax and a floor would make numbers of them.

    All take as many forward passes, as a sharded model needs; what fills a share up is left out again.
    """
    table, size = feed.table, _forward_size(trainer, trainer.processes.size)
    rows = list(trainer.processes.share(range(len(table.y))))
    missing = -(-len(table.y) // trainer.processes.size) - len(rows)
    drawn = [Draw(row, 0) for row in [*rows, *[0] * missing]]
    draws = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    trainer.model.eval()
    found: list[np.ndarray] = []
    with torch.no_grad():
        for part, batch in zip(draws, feed.batches(draws), strict=True):
            if trainer.is_asked_to_stop():
                raise AskedToStop
            wait = trainer.backend.send(feed.logits(trainer.model, batch).float())
            trainer.backend.launch()
            found.append(wait()[: len(part)])
    known = np.empty((len(table.y), trainer.classes), np.float64)
    for own, given in trainer.processes.gather((rows, np.concatenate(found)[: len(rows)])):
        known[own] = given
    _require_finite(known, f"the model's answers for {table.split[0]} are", "the learning rates")
    volumes = from_probability(
        softmax(known), np.arange(trainer.classes), trainer.classes, model=MODEL_NAME, level="volume",
        split=str(table.split[0]), unit=table.volume, table=table,
    )  # fmt: skip
    return aggregate_levels(volumes, table.eye, judged=table.level)


def _run_epoch(
    trainer: Trainer, parallel: Parallel, optimiser: torch.optim.Optimizer, feed: Feed, position: Position
) -> tuple[float, Position]:
    """Take the steps of an epoch that are left; give its mean loss over all processes, and where training is then."""
    config, stage = trainer.config, trainer.config.stages.find(position.stage)
    seed = (trainer.seed, 1 + STAGES.index(position.stage))
    draws = draw_epoch(feed.table, config.sampling, epoch=position.epoch, seed=seed)
    batches = [draws[start : start + config.batch_size] for start in range(0, len(draws), config.batch_size)]
    forward_size = _forward_size(trainer, parallel.size)
    shares = [_split(_share_of(batch, trainer, parallel), forward_size) for batch in batches]
    read = feed.batches([part for share in shares[position.step :] for part in share])
    trainer.model.set_training(statistics=position.stage == "head" and parallel.size == 1)
    rank = trainer.processes.rank if parallel.size > 1 else 0
    total = torch.tensor(position.loss)
    steps = stage.epochs * len(batches)

    def rate_at(step: int) -> None:
        done = (position.epoch - 1) * len(batches) + step
        set_rates(optimiser, schedule_factor(done, steps, stage.warmup_fraction))

    rate_at(max(0, position.step - 1))  # of a state that was saved after the last step, too
    with show_epoch(f"{position.stage} {position.epoch}/{stage.epochs}", len(batches), trainer.tell) as live:
        for step in range(position.step, len(batches)):
            rate_at(step)
            first = position.epoch == 1 and step == 0
            parts = [next(read) for _ in shares[step]]
            with seeded(trainer.backend, (*seed, position.epoch, step, rank)):
                loss = _take_step(parallel, optimiser, feed, parts, len(batches[step]), config, first=first)
            trainer.backend.launch()
            total = total.to(loss.device) + loss
            done = sum(map(len, batches[: step + 1]))
            live.advance(step + 1, len(batches[step]), mean_of(total * parallel.size, done))
            stop = trainer.is_asked_to_stop()
            if stop or ((step + 1) % config.save_every_steps == 0 and step + 1 < len(batches)):
                reached = replace(position, step=step + 1, loss=parallel.sum(float(total.cpu())))
                require_finite_loss(reached)
                _save(trainer, reached, optimiser)
                if stop:
                    raise _stopped(trainer, reached)
    ended = replace(position, step=len(batches), loss=parallel.sum(float(total.cpu())))
    require_finite_loss(ended)
    return ended.loss / len(draws), ended


def require_finite_loss(reached: Position) -> None:
    """Stop before a state of NaN is kept, which nothing could go on from. Raises: DivergedError."""
    where = f"stage {reached.stage}, epoch {reached.epoch}"
    _require_finite(reached.loss, f"{where}: the loss is", f"stages.{reached.stage}.learning_rate")


def _take_step(
    parallel: Parallel,
    optimiser: torch.optim.Optimizer,
    feed: Feed,
    parts: Sequence[LabelledBatch],
    volumes: int,
    config: FinetuneConfig,
    *,
    first: bool,
) -> Float[torch.Tensor, ""]:
    """Take one step; the first of a stage tells what would fit where memory does not suffice."""
    with telling_what_fits(parallel, feed, parts[0]) if first else nullcontext():
        return take_step(parallel, optimiser, feed, parts, volumes=volumes, gradient_clip=config.gradient_clip)


def _share_of(batch: Sequence[Draw], trainer: Trainer, parallel: Parallel) -> Sequence[Draw]:
    """Deal a batch out; draws that do not count give every process as many."""
    if parallel.size == 1:
        return batch
    missing = -len(batch) % parallel.size
    return trainer.processes.share([*batch, *[replace(batch[0], counts=False)] * missing])


def _split(share: Sequence[Draw], size: int) -> list[Sequence[Draw]]:
    return [share[start : start + size] for start in range(0, len(share), size)]


def _forward_size(trainer: Trainer, processes: int) -> int:
    """Give the volumes of one forward in one of so many processes."""
    share = -(-trainer.config.batch_size // processes)
    return min(trainer.config.micro_batch_size or share, share)


def _judge_epoch(
    trainer: Trainer, position: Position, train_loss: float, val: Feed, optimiser: torch.optim.Optimizer
) -> Epoch:
    people = judged_of(predict(trainer, val))
    names = [str(number) for number in range(people.logits.shape[1])]
    measured = all_metrics(people.label, people.probability, np.ones((len(people.label), 1)), names)
    accuracy, log_loss = float(measured[METRIC][0]), float(measured["log_loss"][0])
    known = accuracy if np.isfinite(accuracy) else None
    stage, share = trainer.config.stages.find(position.stage), reached_share(optimiser)
    encoder_rate = stage.encoder_learning_rate * share if isinstance(stage, EncoderStage) else 0.0
    return Epoch(position.stage, position.epoch, train_loss, known, log_loss, stage.learning_rate * share, encoder_rate)


def _require_finite(found: float | np.ndarray, what: str, lower: str) -> None:
    """Stop where training gave NaN or infinity: nothing is worse than NaN where epochs are compared.

    Raises: DivergedError.
    """
    if not np.isfinite(found).all():
        raise DivergedError(f"{what} not finite; lower {lower}")


@contextmanager
def _stopping_at(trainer: Trainer, position: Position, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Save the state where the training is asked to stop meanwhile. Raises StoppedError."""
    try:
        yield
    except AskedToStop as asked:
        _save(trainer, position, optimiser)
        raise _stopped(trainer, position) from asked


def _stopped(trainer: Trainer, position: Position) -> StoppedError:
    name = next(found for found in trainer.processes.compare(trainer.stop.name) if found)
    return StoppedError(
        f"{name}: the training state is saved, of stage {position.stage}, epoch {position.epoch}, step "
        f"{position.step:,}; the same command goes on from there",
        exit_code_of(name),
    )


def _save(trainer: Trainer, position: Position, optimiser: torch.optim.Optimizer) -> None:
    """Keep the state: the first process writes what all hold together."""
    if trainer.state is None:
        return
    tensors = collect_tensors(trainer.model, optimiser)
    if trainer.processes.rank == 0:
        trainer.state.save(position, tensors, trainer.best)
    trainer.processes.compare(None)  # all wait until it is there


def _of_stage(history: Sequence[Epoch], name: str) -> list[Epoch]:
    return [epoch for epoch in history if epoch.stage == name]
