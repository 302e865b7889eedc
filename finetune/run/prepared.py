"""What a training run and a search both begin with: the encoder, the device, and everything to learn from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from classify.cohort.questions import Task
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.vouched import NOBODY, read_vouched
from embeddings_store.errors import UsageError
from embeddings_store.space import EmbeddingSpace
from embeddings_store.terminal.console import say
from extract.device.backend import Backend
from extract.device.compiled import require_compilable
from extract.encode import build_space
from extract.encoder.encoder import Encoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import require_own_preset
from finetune.data.images import ImageCache
from finetune.data.inputs import Inputs, Reader
from finetune.data.kept_vectors import KeptVectors
from finetune.data.named_labels import with_labels_of_dataset
from finetune.data.stored import LAYER, POOL, open_stored
from finetune.options import PRESET, TrainingOptions, image_recipe
from finetune.parallel.processes import Processes, require_same
from finetune.parallel.spmd import encoding_device, open_trainer
from finetune.recipe.fitting import describe_fit, fit_recipe
from finetune.run.workplace import work_folder
from finetune.training.stages import require_blocks

IMAGES, VECTORS = "images", "vectors"

OptionsT = TypeVar("OptionsT", bound=TrainingOptions)


@dataclass(frozen=True)
class Prepared(Generic[OptionsT]):
    """options: with the recipe that fits the device. work: a folder for whatever must survive a kill. space: of the
    starting encoder's vectors.
    """

    options: OptionsT
    task: Task
    encoder: Encoder
    backend: Backend
    space: EmbeddingSpace
    images: ImageCache
    inputs: Inputs
    tables: CohortTables
    work: Path


@contextmanager
def prepare(options: OptionsT, processes: Processes) -> Iterator[Prepared[OptionsT]]:
    """Check what is cheap to check, then read store and bucket; the volumes of test are not opened.

    Raises: UsageError, RunError (CohortError, LeakError, BucketError, CheckpointError, DeviceError).
    """
    options.require_source()
    options = with_labels_of_dataset(options, say if processes.rank == 0 else lambda _: None)
    question, config = options.question(options.task), options.recipe
    tables = read_tables(
        options.label_source, question, options.measurements, options.pretrain_participants,
        vouched=read_vouched(options.allow_near_copies) if options.allow_near_copies else NOBODY,
        tell=say if processes.rank == 0 else lambda _: None,
    )  # fmt: skip
    task = tables.task
    if task.is_number:
        raise UsageError(
            f"finetune: {task.target} is a number, and blocks are trained for classes alone; give --kind with classes, "
            "or probe stored embeddings: classify probe --kind number"
        )
    encoder = open_encoder(**options.choice.arguments())
    require_own_preset(
        encoder, PRESET.name, f"finetune has {PRESET.name} only: probe stored embeddings of this encoder instead"
    )
    require_blocks(config, options.stages, encoder.architecture.depth)
    forward_size = config.micro_batch_size or config.batch_size
    backend = open_trainer(options.device, forward_size=forward_size)
    require_compilable(backend, options.compiled)
    config = fit_recipe(config, options.stages, encoder.architecture, backend, processes.size)
    options = replace(options, config=config, change=())
    if processes.rank == 0 and options.stages != ("head",):
        memory, size = backend.memory_bytes(), processes.size
        say(describe_fit(config, options.stages, encoder.architecture, memory, size, backend.chips))
    space = build_space(
        encoder, PRESET.to_dict(), layers=(LAYER,), pools=(POOL,), token_grid=None, precision=backend.precision
    )
    stored = (
        open_stored(options.store, options.endpoint_url, space, config.precision or "fp32") if options.store else None
    )
    if stored is not None and (differs := stored.differs_from(space)):
        space = replace(space, precision=stored.snapshot.space.precision)
        if processes.rank == 0:
            say(differs)
    with work_folder(options.runs, options.key(encoder), processes) as work:
        recipe = image_recipe(encoder.architecture.image_size)
        images = ImageCache(options.cache_dir or work / IMAGES, recipe, config.cache)
        kept = KeptVectors(work / VECTORS, f"{space.id}\n{recipe}\n{config.cache}")
        encoding = encoding_device(backend, space.precision)
        reader = Reader(options, task, tables, encoder, encoding, space, images, processes, stored, kept)
        inputs = reader.read()
        require_same(processes, inputs.fingerprint, "volumes and their vectors")
        yield Prepared(options, task, encoder, backend, space, images, inputs, tables, work)
