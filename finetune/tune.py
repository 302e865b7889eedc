"""The verb ``finetune tune``: choose rates, batch size, head and depth inside train; val and test are never seen.

One participant in FOLDS of train is held back, stratified by class; every trial learns from the others.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.features import FeatureTable
from classify.standardise import Standardiser
from embeddings_store.errors import RunError, UsageError
from finetune.config import FinetuneConfig
from finetune.epochs import BestWeights, Epoch
from finetune.loop import Trainer
from finetune.options import FinetuneOptions
from finetune.prepared import Prepared, prepare
from finetune.processes import OneProcess
from finetune.recipe import save_config
from finetune.training import Feeds, new_model, train_stages

FOLDS = 5
JOURNAL, BEST, RECORD = "study.journal", "best.yaml", "tune.json"
HEADS = ("linear", "mlp", "ordinal", "attentive")
BATCH_SIZES = (4, 8, 16)
LAST = "last"


@dataclass(frozen=True)
class Tuned:
    """What a search found. record: trials, the best one and its score, and how it was measured."""

    config: FinetuneConfig
    record: dict[str, Any]
    folder: Path


def tune(options: FinetuneOptions, *, trials: int, folder: Path, tell: Callable[[str], None]) -> Tuned:
    """Search until the study in ``folder`` holds so many finished trials; write the best recipe beside it.

    options.stages: "head" alone, or "head,last", whose blocks are then searched, too. A killed search goes on.
    Raises: UsageError, RunError where the folder cannot be written or belongs to another search.
    """
    import optuna

    if options.stages not in {("head",), ("head", LAST)}:
        raise UsageError(f"--stages: a search runs head or head,last, got {','.join(options.stages)}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with prepare(options, OneProcess()) as ready:
        study = _open_study(folder, options.key(ready.encoder), options.seed)
        inside = _inside_train(ready, options.seed)
        while (finished := _finished(study)) < trials:
            study.optimize(lambda trial: _try(trial, options, inside, tell), n_trials=1)
            last = study.trials[-1]
            tell(f"trial {finished + 1} of {trials}: {last.state.name.lower()}, {_words(last.params)}, {last.value}")
        best = study.best_trial
        config = _recipe_of(options.config, best.params)
        record = _describe(study, inside)
        (folder / RECORD).write_text(json.dumps(record, indent=2, allow_nan=False))
        save_config(config, folder / BEST)
    return Tuned(config, record, folder)


def score_of(epoch: Epoch) -> float:
    """Order epochs by balanced accuracy of participants; log-loss breaks ties without ever outweighing a person."""
    known = 0.0 if epoch.val_balanced_accuracy is None else epoch.val_balanced_accuracy
    return known - 1e-3 * min(epoch.val_log_loss, 10.0)


def _open_study(folder: Path, key: str, seed: int) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except OSError as error:
        raise RunError(f"--study {folder}: expected a folder that can be written, got: {error.strerror}") from error
    names = [found.study_name for found in optuna.get_all_study_summaries(storage)]
    if names and names != [key]:
        raise RunError(
            f"--study {folder}: it belongs to another search (other data, encoder or recipe); choose another"
        )
    before = len(optuna.load_study(study_name=key, storage=storage).trials) if names else 0
    # With one seed the sampler of a resumed search would draw again what it drew at first.
    sampler = optuna.samplers.TPESampler(seed=seed + before, n_startup_trials=5)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    return optuna.create_study(
        direction="maximize", study_name=key, storage=storage, sampler=sampler, pruner=pruner, load_if_exists=True
    )


def _inside_train(ready: Prepared, seed: int) -> Prepared:
    """Give the same inputs with train alone, one fold of it in the place of val."""
    train = ready.inputs.features.only("train")
    held = grouped_folds(train.participant, train.y, folds=FOLDS, seed=seed) == 0
    check_no_leak({"fitted": train.participant[~held].tolist(), "held back": train.participant[held].tolist()})
    table: FeatureTable = replace(train, split=np.where(held, "val", "train"))
    return replace(ready, inputs=replace(ready.inputs, features=table))


def _try(trial: Any, options: FinetuneOptions, ready: Prepared, tell: Callable[[str], None]) -> float:
    """Train one suggestion; give the score of its best epoch. Optuna hears of every epoch, and may prune."""
    import optuna

    config = _recipe_of(options.config, _suggest(trial, options, ready.encoder.architecture.depth))
    stages = options.stages if trial.params.get("blocks", 0) else ("head",)
    classes, train = len(ready.task.classes), ready.inputs.features.only("train")
    standardiser = Standardiser.fit(train.x, train.protocol)

    def watch(history: Sequence[Epoch]) -> None:
        trial.report(max(map(score_of, history)), len(history))
        if trial.should_prune():
            raise optuna.TrialPruned

    model = new_model(config, ready.encoder, ready.backend, standardiser, classes, options.seed)
    trainer = Trainer(
        model, config, classes, options.seed, ready.backend, OneProcess(), BestWeights(),
        lambda line: tell(f"trial {trial.number + 1}, {line}"), watch,
    )  # fmt: skip
    feeds = Feeds(config, ready.inputs, ready.images, standardiser, ready.backend, classes, options.seed)
    _, best = train_stages(trainer, stages, feeds)
    return score_of(best)


def _suggest(trial: Any, options: FinetuneOptions, depth: int) -> dict[str, Any]:
    found = {
        "head": trial.suggest_categorical("head", HEADS),
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True),
    }
    if LAST in options.stages:
        found["blocks"] = trial.suggest_int("blocks", 0, depth)
        found["encoder_learning_rate"] = trial.suggest_float("encoder_learning_rate", 1e-6, 1e-3, log=True)
    return found


def _recipe_of(config: FinetuneConfig, found: dict[str, Any]) -> FinetuneConfig:
    """Put what was suggested over a recipe; of zero blocks the stage of the last blocks is left as it is."""
    settings = config.model_dump()
    if settings["head"]["kind"] != found["head"]:
        settings["head"] = {"kind": found["head"]}
    settings["batch_size"] = found["batch_size"]
    settings["micro_batch_size"] = min(config.micro_batch_size or found["batch_size"], found["batch_size"])
    settings["stages"]["head"]["learning_rate"] = found["learning_rate"]
    if found.get("blocks"):
        settings["stages"][LAST] |= {name: found[name] for name in ("blocks", "encoder_learning_rate")}
    return FinetuneConfig.model_validate(settings)


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _words(found: dict[str, Any]) -> str:
    told = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in found.items()}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _describe(study: Any, ready: Prepared) -> dict[str, Any]:
    held = ready.inputs.features.only("val")
    states = Counter(trial.state.name.lower() for trial in study.trials)
    return {
        "trials": len(study.trials),
        "states": dict(states),
        "best": {"number": study.best_trial.number, "value": study.best_value, "parameters": study.best_params},
        "metric": "balanced accuracy of held-back participants of train, less 0.001 of their log-loss",
        "held_back_participants": len(np.unique(held.participant)),
        "history": [
            {"number": t.number, "state": t.state.name.lower(), "value": t.value, "parameters": t.params}
            for t in study.trials
        ],
    }
