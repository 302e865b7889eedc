"""Every head with its search beside tuned peers, on cohorts of known truth: same folds, as many trials.

A cell is a structure, a size, a number of classes, a seed, a setting (trials, width) and a model; each is written when
it is measured, so the same command goes on where it stopped. The default size is 2,970 cells, several days of one core;
--structures, --models, --sizes and the like choose some. --draw puts the table of what is measured with these trials
and this width into docs/choosing.md.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from head_peers import PEERS, search_peer
from head_signals import GRID, STRUCTURES, Drawn, draw
from heads_measured import NAMED_BY, draw_table, macro_auroc, name_of, replace_table
from threadpoolctl import threadpool_limits

from classify.features.table import FeatureChoice
from classify.fitting.model import fit_model
from classify.heads import HEADS
from classify.probe_checks import rivals_of
from classify.search.among import take_among
from classify.search.folds import FOLDS
from classify.search.scoring import deal_folds
from classify.search.search import SearchPlan, choose_model
from classify.search.spaces import AUTO
from embeddings_store.publish import published

PAGE = Path(__file__).parent.parent.parent / "docs" / "choosing.md"
RESULTS = Path(__file__).parent / "results"
OURS = (*(name for name in HEADS if name != "dummy"), AUTO)
TOKEN_PEERS = ("attentive with positions", "LogisticRegression on tokens")
SHORT = {"sizes": (100,), "classes": (4,), "seeds": (0,), "trials": 6, "width": 32}
FULL = {"sizes": (100, 300, 743), "classes": (2, 4), "seeds": (0, 1, 2), "trials": 50, "width": 256}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then print the table."""
    options = _parse(arguments)
    known: dict[str, dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for key, cell in _cells(options):
        if key in known:
            continue
        known[key] = cell | (_auto_of(cell, known) or measure(cell))
        print(f"{key}: {known[key]['score']:.3f} in {known[key]['seconds']:.0f} s", flush=True)
        with published(options.out) as aside:
            lines = (f"{json.dumps(name)}: {json.dumps(one)}" for name, one in known.items())
            aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    table = draw_table(known.values(), (*OURS, *PEERS, *TOKEN_PEERS), trials=options.trials, width=options.width)
    print(table)
    if options.draw:
        PAGE.write_text(replace_table(PAGE.read_text(), table))
    return 0


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """Give macro AUROC of fresh participants, that of the truth, and seconds of the processor for search and fit.

    Of ours also the value inside train (inside) by which auto would choose.
    """
    drawn = draw(cell["structure"], cell["size"], cell["classes"], cell["seed"], width=cell["width"])
    begun = process_time()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        found = _ours(cell, drawn) if cell["model"] in OURS else _peer(cell, drawn)
    return {"bayes": drawn.bayes, "seconds": process_time() - begun, **found}


def _ours(cell: dict[str, Any], drawn: Drawn) -> dict[str, Any]:
    model, seed, trials = cell["model"], cell["seed"], cell["trials"]
    names = _rivals_of(drawn) if model == AUTO else [model]
    plans = [
        SearchPlan(name, trials=trials, seed=seed, folds=FOLDS, token_grid=GRID if HEADS[name].reads_tokens else None)
        for name in names
    ]
    plan = replace(plans[0], model=AUTO, rivals=tuple(plans))  # a head alone is chosen as among one
    with tempfile.TemporaryDirectory() as runs:
        chosen = choose_model(plan, drawn.train, runs=Path(runs), facts={}, tell=lambda _: None)
    spec = chosen.spec
    fitted = fit_model(spec, drawn.train.table(spec.features), classes=cell["classes"], seed=seed)
    people = fitted.predict(drawn.fresh.table(spec.features), classes=cell["classes"], split="test")["participant"]
    return {
        "score": macro_auroc(people.label, people.logits),
        "inside": max(one["value"] for one in (chosen.record.among or {})["heads"]),
        "chosen": {"model": spec.model, "parameters": dict(spec.parameters), "aggregation": spec.aggregation},
    }


def _rivals_of(drawn: Drawn) -> list[str]:
    return rivals_of((AUTO,), AUTO, drawn.train)


def _auto_of(cell: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Give what auto does where each of its rivals was measured: the same searches, so they are not run again."""
    if cell["model"] != AUTO:
        return None
    drawn = draw(cell["structure"], cell["size"], cell["classes"], cell["seed"], width=cell["width"])
    rivals = [known.get(name_of(cell | {"model": name}), {}) for name in _rivals_of(drawn)]
    if not all("inside" in one for one in rivals):
        return None
    inside = np.array([[float(one["inside"])] for one in rivals])
    best = rivals[int(take_among([one["model"] for one in rivals], inside, cell["size"])[0])]
    return {name: best[name] for name in ("bayes", "score", "inside", "chosen")} | {
        "seconds": sum(one["seconds"] for one in rivals)
    }


def _peer(cell: dict[str, Any], drawn: Drawn) -> dict[str, Any]:
    on_tokens = cell["model"] in TOKEN_PEERS
    choice = FeatureChoice("last", (), GRID) if on_tokens else FeatureChoice()
    train, fresh = drawn.train.table(choice), drawn.fresh.table(choice)
    fold = dict(
        zip(train.participant.tolist(), deal_folds(train.participant, train.y, FOLDS, cell["seed"]), strict=True)
    )
    if cell["model"] == TOKEN_PEERS[0]:
        from head_token_peer import search_attentive

        return {"score": search_attentive(train, fresh, fold, cell["seed"])}
    space = PEERS["LogisticRegression" if on_tokens else cell["model"]]
    return {"score": search_peer(space, train, fresh, fold, cell["seed"], cell["trials"])}


def _cells(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for structure, size, classes, seed in product(options.structures, options.sizes, options.classes, options.seeds):
        tokens = structure in {"region", "moving-region", "everywhere"}
        for model in options.models:
            if not tokens and (model in TOKEN_PEERS or (model in HEADS and HEADS[model].reads_tokens)):
                continue
            named = (structure, size, classes, seed, options.trials, options.width, model)
            cell = dict(zip(NAMED_BY, named, strict=True))
            yield name_of(cell), cell


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="heads.py", description=__doc__)
    every = (*OURS, *PEERS, *TOKEN_PEERS)
    parser.add_argument("--short", action="store_true", help="100 participants, 32 dimensions, 6 trials: minutes")
    parser.add_argument("--structures", type=_among(STRUCTURES), default=tuple(STRUCTURES))
    parser.add_argument("--models", type=_among(every), default=every, help="names with commas between")
    for name in ("sizes", "classes", "seeds"):
        parser.add_argument(f"--{name}", type=lambda text: tuple(int(part) for part in text.split(",")))
    parser.add_argument("--trials", type=int, help="of each search, ours and peers'")
    parser.add_argument("--width", type=int, help="dimensions of pooled vectors")
    parser.add_argument("--out", type=Path, help="cells (default: results/heads.json, of --short heads-short.json)")
    parser.add_argument("--draw", action="store_true", help="put the table into docs/choosing.md")
    options = parser.parse_args(arguments)
    if options.short and options.draw:
        parser.error("--draw: the page holds no numbers of --short")
    options.out = options.out or RESULTS / ("heads-short.json" if options.short else "heads.json")
    for name, value in (SHORT if options.short else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _among(known: Any) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; expected some of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    raise SystemExit(main())
