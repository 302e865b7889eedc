"""The verb ``finetune tune``: choose rates, batch size, head and depth inside train; val and test are never seen.

One participant in FOLDS of train is held back, stratified by class; every trial learns from the others.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classify.run.typed_record import as_json
from classify.search.ray_engine import TuneCluster, import_ray, search_with_ray
from classify.search.study import open_study
from embeddings_store.errors import UsageError
from embeddings_store.publish import published
from embeddings_store.terminal.console import say
from finetune.options import TuneOptions
from finetune.parallel.processes import OneProcess
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import save_config
from finetune.run.prepared import prepare
from finetune.search.study import (
    JOURNAL,
    Space,
    TuneRecord,
    describe_study,
    describe_trial,
    median_rule,
    search_locally,
    train_on_ray,
)
from finetune.search.trial import LAST, inside_train, recipe_of

BEST, RECORD = "best.yaml", "tune.json"
RAY = "ray"


@dataclass(frozen=True)
class Tuned:
    """What a search found. record: trials, the best one and its score, and how it was measured."""

    config: FinetuneConfig
    record: TuneRecord
    folder: Path


def tune(options: TuneOptions, *, tell: Callable[[str], None] = say, at_once: int | None = None) -> Tuned:
    """Search until the study in its folder holds so many finished trials; write the best recipe there.

    at_once: trials at a time on a Ray cluster; None: one per core or GPU.

    options.stages: "head" alone, or "head,last", whose blocks are then searched, too. A killed search goes on, by
    either engine. Raises: UsageError, RunError where the folder cannot be written or belongs to another search.
    """
    check_search(options)
    folder, trials = options.study, options.trials
    with prepare(options, OneProcess()) as ready:
        options = ready.options
        ready.tables.keep_splits(ready.inputs.marked, tell)
        runner = inside_train(ready, options)
        space = Space(ready.encoder.architecture.depth if LAST in options.stages else 0)
        drawing, key = space.drawing(options.seed), options.key(ready.encoder)
        with open_study(folder / JOURNAL, key, drawing, tell) as study:
            if options.engine == RAY:
                finished = len(study.finished())
                cluster = TuneCluster(options.ray_address, at_once, int(ready.backend.name == "cuda"))
                search_with_ray(study, train_on_ray, runner, cluster, trials=trials, tell=tell, scheduler=median_rule)
                for number, trial in enumerate(study.finished()[finished:], finished + 1):
                    tell(f"trial {number} of {trials}: {describe_trial(trial)}")
            else:
                search_locally(study, runner, ready.backend, trials=trials, tell=tell)
            config = recipe_of(options.recipe, study.best().params)
            record = describe_study(study, runner, options.engine)
            with published(folder / RECORD) as aside:
                aside.write_text(json.dumps(as_json(record), indent=2, allow_nan=False))
            with published(folder / BEST) as aside:
                save_config(config, aside)
    return Tuned(config, record, folder)


def check_search(options: TuneOptions) -> None:
    """Refuse what cannot be, before anything is read. Raises: UsageError."""
    if options.stages not in {("head",), ("head", LAST)}:
        raise UsageError(f"--stages: a search runs head or head,last, got {','.join(options.stages)}")
    if options.engine == RAY:
        import_ray()
    elif options.ray_address is not None:
        raise UsageError(f"--ray-address belongs to --engine {RAY}")
