"""Makes finished run folders from simulated numbers, in the format that classify writes. No patient, no scan."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)

FOUR_CLASSES = (
    "healthy",
    "pre_diabetes_lifestyle_controlled",
    "oral_medication_and_or_non_insulin_injectable_medication_controlled",
    "insulin_dependent",
)
BASELINES = ("dummy", "age", "site", "age+site")
LEVELS = {"volume": "volume", "eye": "eye_unit", "participant": "participant"}
DEVICES = ("heidelberg_spectralis", "topcon_triton", "topcon_maestro2", "zeiss_cirrus")


def make_cohort(classes: tuple[str, ...], participants: int, rng: np.random.Generator) -> pd.DataFrame:
    """Two eyes a participant, two devices an eye; splits 60/20/20."""
    people = []
    for number in range(participants):
        site = ("1", "4", "7")[number % 3]
        label = int(rng.integers(len(classes)))
        split = "train" if number % 5 < 3 else ("val" if number % 5 == 3 else "test")
        people.append((f"{site}{number:03d}", {"1": "UW", "4": "UCSD", "7": "UAB"}[site], label, split))
    rows = [
        {
            "volume": sha256(f"{person}{eye}{device}".encode()).hexdigest()[:16],
            "participant": person,
            "eye": eye,
            "eye_unit": f"{person}/{eye}",
            "device": device,
            "protocol": device.split("_")[1] + "_mac",
            "site": site,
            "age": int(45 + 5 * label + rng.integers(25)),
            "label": label,
            "split": split,
        }
        for person, site, label, split in people
        for eye in ("L", "R")
        for device in rng.choice(DEVICES, 2, replace=False)
    ]
    return pd.DataFrame(rows)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def simulate_scores(cohort: pd.DataFrame, k: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Logits that know ``strength`` of the label: one noise a participant, some more a volume."""
    noise = {p: rng.normal(size=k) for p in cohort["participant"].unique()}
    scores = np.stack([noise[p] for p in cohort["participant"]]) + 0.3 * rng.normal(size=(len(cohort), k))
    scores[np.arange(len(cohort)), cohort["label"]] += strength
    return scores


def predictions_table(cohort: pd.DataFrame, model: str, logits: np.ndarray) -> pd.DataFrame:
    """The rows of predictions.parquet of one model, all three levels, train and val only."""
    k = logits.shape[1]
    wide = cohort[["participant", "eye_unit", "volume", "label", "split"]].reset_index(drop=True)
    wide[[f"logit_{c}" for c in range(k)]] = logits
    wide = wide[wide["split"] != "test"]
    tables = []
    for level, unit in LEVELS.items():
        means = wide.groupby([unit], sort=True)[[f"logit_{c}" for c in range(k)]].mean()
        first = wide.groupby([unit], sort=True)[["label", "split"]].first()
        person = wide.groupby([unit], sort=True)["participant"].first() if unit != "participant" else None
        table = pd.DataFrame({"unit": means.index.to_numpy(), "split": first["split"].to_numpy()})
        table["participant"] = means.index.to_numpy() if person is None else person.to_numpy()
        table["label"] = first["label"].to_numpy()
        table[[f"probability_{c}" for c in range(k)]] = probabilities(means.to_numpy())
        table[[f"logit_{c}" for c in range(k)]] = means.to_numpy()
        tables.append(table.assign(model=model, level=level))
    return pd.concat(tables, ignore_index=True)


def interval(value: float, spread: float) -> dict[str, float]:
    return {"value": float(value), "low": float(value - spread), "high": float(value + spread)}


def measure(table: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    """Metrics by scikit-learn, with a made-up interval (the report only shows what the record holds)."""
    k = len(classes)
    y = table["label"].to_numpy()
    p = table[[f"probability_{c}" for c in range(k)]].to_numpy()
    said = p.argmax(axis=1)
    spread = 0.9 / np.sqrt(len(y))
    onehot = np.eye(k)[y]
    aucs = [roc_auc_score(onehot[:, c], p[:, c]) for c in range(k)]
    return {
        "balanced_accuracy": interval(balanced_accuracy_score(y, said), spread),
        "macro_auroc": interval(float(np.mean(aucs)), spread),
        "quadratic_weighted_kappa": interval(cohen_kappa_score(y, said, weights="quadratic"), 2 * spread),
        "accuracy": interval(accuracy_score(y, said), spread),
        "log_loss": interval(log_loss(y, p, labels=range(k)), spread),
        "brier": interval(float(((p - onehot) ** 2).sum(axis=1).mean()), spread),
        "expected_calibration_error": interval(0.1, 0.05),
        **{f"auroc/{name}": interval(auc, spread) for name, auc in zip(classes, aucs, strict=True)},
        **{f"recall/{name}": {"absent": "too few participants"} for name in classes[:1]},
    }


def train_booster(cohort: pd.DataFrame, x: np.ndarray, k: int, names: list[str]) -> lgb.Booster:
    train = (cohort["split"] == "train").to_numpy()
    objective = {"objective": "multiclass", "num_class": k}
    data = lgb.Dataset(x[train], cohort["label"].to_numpy()[train], feature_name=names)
    options = {**objective, "num_leaves": 6, "verbose": -1, "num_threads": 1, "seed": 1}
    return lgb.train(options, data, num_boost_round=12)


def simulate_features(cohort: pd.DataFrame, strength: float, rng: np.random.Generator, width: int = 16) -> np.ndarray:
    """The first column follows the label, the second runs against it, the others are noise."""
    x = rng.normal(size=(len(cohort), width)).astype(np.float32)
    x[:, 0] += strength * cohort["label"].to_numpy()
    x[:, 1] -= strength / 2 * cohort["label"].to_numpy()
    return x


def _splits(cohort: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    people = cohort.drop_duplicates("participant")
    return {
        split: {
            "participants": int((people["split"] == split).sum()),
            "eyes": int(cohort[cohort["split"] == split]["eye_unit"].nunique()),
            "volumes": int((cohort["split"] == split).sum()),
            "per_class": {
                name: int(((people["split"] == split) & (people["label"] == c)).sum()) for c, name in enumerate(classes)
            },
        }
        for split in ("train", "val", "test")
    }


def flow(cohort: pd.DataFrame) -> list[dict[str, Any]]:
    """Seven volumes of two participants never joined, one was constant; then the splits."""
    volumes, people = len(cohort), cohort["participant"].nunique()

    def step(name: str, kind: str, count: int, persons: int, reason: str) -> dict[str, Any]:
        return {"step": name, "kind": kind, "volumes": count, "participants": int(persons), "reason": reason}

    return [
        step("store", "total", volumes + 8, people + 2, "volumes with an embedding"),
        step("no participant", "excluded", 7, 2, "the participant is not in the participants table"),
        step("constant", "excluded", 1, 1, "every voxel of the volume is equal"),
        step("age missing", "note", 4, 1, "no usable age; kept, and marked for the age baselines"),
        step("analysed", "total", volumes, people, "volumes with a label and a split"),
        *(
            step(split, "total", len(part), part["participant"].nunique(), reason)
            for split, reason in (("train", "fitted on"), ("val", "predicted"), ("test", "locked: neither"))
            for part in [cohort[cohort["split"] == split]]
        ),
    ]


def build_run(
    runs_dir: Path,
    run_id: str,
    *,
    model: str = "lgbm",
    strength: float = 1.0,
    classes: tuple[str, ...] = FOUR_CLASSES,
    participants: int = 150,
    phantom: bool = True,
    task: str = "four-class",
    space: str = "5bace00000000001",
    seed: int = 3,
    change: dict[str, Any] | None = None,
) -> Path:
    """Write ``runs_dir/run_id`` and give its path; ``change`` overwrites fields of run.json."""
    rng = np.random.default_rng(seed)
    cohort = make_cohort(classes, participants, rng)
    k = len(classes)
    strengths = {model: strength, "dummy": 0.0, "age": 0.2, "site": 0.0, "age+site": 0.2}
    x = simulate_features(cohort, strength, rng)
    names = [f"last/mean/{i:03d}" for i in range(x.shape[1])]
    booster = train_booster(cohort, x, k, names) if model == "lgbm" else None
    scores = {name: simulate_scores(cohort, k, s, rng) for name, s in strengths.items()}
    if booster is not None:
        scores[model] = np.asarray(booster.predict(x, raw_score=True))
    tables = {name: predictions_table(cohort, name, logits) for name, logits in scores.items()}
    of = {
        (name, level): measure(table[(table["level"] == level) & (table["split"] == "val")], classes)
        for name, table in tables.items()
        for level in LEVELS
    }
    mine, theirs = of[model, "participant"], of["age+site", "participant"]
    difference = {
        name: interval(mine[name]["value"] - theirs[name]["value"], 0.12)
        for name in mine
        if "value" in mine[name] and "value" in theirs.get(name, {})
    }
    predicted = {
        level: tables[model][(tables[model]["level"] == level) & (tables[model]["split"] == "val")] for level in LEVELS
    }
    volumes = len(cohort)
    record = {
        "id": run_id,
        "created": "2026-11-20T09:30:00+00:00",
        "command": ["classify", "probe", "--model", model, "--store", "demo/store"],
        "model": model,
        "task": task,
        "classes": list(classes),
        "space": space,
        "embedding_space": {"family": "vjepa3d", "weights_sha256": "ab" * 32, "layers": ["last"], "precision": "fp32"},
        "snapshot": {"number": 1, "rows": volumes + 8},
        "cohort_sha256": "c0ffee" + "0" * 58,
        "splits": _splits(cohort, classes),
        "features": {
            "layer": "last",
            "pools": ["mean", "std"],
            "aggregation": "mean-logit",
            "standardise": "protocol",
            "dimensions": 16,
        },
        "parameters": {"num_leaves": 6, "learning_rate": 0.1},
        "search": {"trials": 20, "best": {"num_leaves": 6}, "metric": "log_loss"},
        "seeds": {"search": 1, "bootstrap": 2},
        "metrics": {level: {"val": of[model, level]} for level in LEVELS},
        "confusion": {
            level: confusion_matrix(
                t["label"], t[[f"probability_{c}" for c in range(k)]].to_numpy().argmax(axis=1), labels=range(k)
            ).tolist()
            for level, t in predicted.items()
        },
        "baselines": {name: {"val": of[name, "participant"]} for name in BASELINES},
        "difference_to_age_site": difference,
        "flow": flow(cohort),
        "phantom": phantom,
        "seconds": {"search": 12.5, "fit": 0.8},
        "versions": {"python": "3.11", "lightgbm": lgb.__version__},
        **(change or {}),
    }
    folder = runs_dir / run_id
    (folder / "model").mkdir(parents=True)
    pd.concat(tables.values(), ignore_index=True).to_parquet(folder / "predictions.parquet")
    cohort.drop(columns="eye_unit").to_parquet(folder / "cohort.parquet")
    if booster is not None:
        booster.save_model(folder / "model" / "head.lightgbm.txt")
    np.savez(folder / "features_for_tests.npz", x=x, names=np.array(names))
    (folder / "run.json").write_text(json.dumps(record))
    return folder
