"""A model card (Mitchell et al., 2019) of one run: what software knows is filled in, the rest is asked for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from classify.judging.calibrate import describe_method
from classify.run.ledger import COUNTED_HERE
from reports.encoders import describe_encoder, encoder_part
from reports.headline import spell
from reports.ledger import read_looks, say_looks, say_resplits
from reports.page import publish, render
from reports.runs import FinishedRun
from reports.tables import metrics_of, say_question

CARD = "model-card.html"


def write_model_card(run: FinishedRun, out: Path, *, now: datetime) -> Path:
    """Publish OUT/model-card.html. Raises: RunError where it cannot be written."""
    page = out / CARD
    context = {
        "run": run,
        "sections": card_sections(run),
        "phantom": run.is_phantom,
        "resplits": say_resplits([run]),
        **encoder_part([run]),
        "date": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": version("octprobe"),
    }
    publish(render("model_card.html.j2", context), page)
    return page


def card_sections(run: FinishedRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """List the card's sections: name and value of each line, "" where only the investigator can say it."""
    return [
        ("Model", _model(run)),
        ("Intended use", _use(run)),
        ("Data", _data(run)),
        ("Performance", _performance(run)),
        ("Limits", _limits(run)),
    ]


def _model(run: FinishedRun) -> list[tuple[str, str]]:
    space, features = run.record.asked.embedding_space, run.record.fitted.features
    calibration = run.record.fitted.calibration
    return [
        ("Run", run.id),
        ("Head", run.model),
        ("Features", f"layer {features.get('layer')}, {features.get('dimensions')} numbers"),
        ("Scans to participant", str(features.get("aggregation", "not recorded"))),
        ("Encoder", f"{space.get('family', 'not recorded')}, {space.get('precision', '')}"),
        ("Encoder source", describe_encoder(run)),
        ("Encoder weights", f"sha256 {space.get('weights_sha256', 'not recorded')}"),
        ("Probabilities", describe_method(calibration)),
        ("Prevalence", _prevalence(calibration)),
        ("Licence and contact", ""),
    ]


def _prevalence(calibration: Mapping[str, Any] | None) -> str:
    stated = (calibration or {}).get("prevalence")
    if not stated:
        return "none: probabilities are at balanced classes"
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.3f}" for name, share in stated.items())
    return f"{shares} ({(calibration or {})['prevalence_of']})"


def _use(run: FinishedRun) -> list[tuple[str, str]]:
    return [
        ("Question", say_question(run.task)),
        ("For", "Research on retinal OCT. Not for clinical decisions."),
        ("Not for", "Screening, diagnosis or treatment of anybody; scanners and protocols that training did not hold"),
        ("Users it is meant for", ""),
    ]


def _data(run: FinishedRun) -> list[tuple[str, str]]:
    sizes = {name: size["participants"] for name, size in run.record.cohort.splits.items()}
    train = run.run.cohort[run.run.cohort["split"] == "train"]
    return [
        ("Participants", ", ".join(f"{name} {count}" for name, count in sizes.items())),
        ("Sites in training, volumes", _counted(train["site"])),
        ("Devices in training, volumes", _counted(train["device"])),
        ("Protocols in training, volumes", _counted(train["protocol"])),
        ("Cohort", f"sha256 {run.record.cohort.cohort_sha256}"),
        ("How participants were recruited, and whom they represent", ""),
    ]


def _performance(run: FinishedRun) -> list[tuple[str, str]]:
    lines = [
        (f"{metric.title}, {split}", spell(run.estimate(run.level, split, metric.name)))
        for split in run.splits_judged()
        for metric in metrics_of(run.task)
    ]
    apart = run.rivals(run.primary)
    rivals = [
        (f"{metrics_of(run.task)[0].title} minus {name}, val", spell(found, signed=True))
        for name, found in apart.items()
    ]
    rivals = [line for line in rivals if run.covariates not in line[0]]
    if "test" in run.splits_judged():
        looks = say_looks(read_looks(run.folder.resolve().parent, [run]))
        lines.append(("The test split was looked at", f"{looks}, {COUNTED_HERE}"))
    return [
        *lines,
        (
            f"{metrics_of(run.task)[0].title} minus {run.covariates}, val",
            spell(run.difference(run.primary), signed=True),
        ),
        *rivals,
    ]


def _limits(run: FinishedRun) -> list[tuple[str, str]]:
    overlap = run.record.cohort.pretraining
    known = "given; see the study page" if overlap.get("given") else "not given: the encoder may have seen val or test"
    return [
        ("Participants of pretraining", known),
        ("Baselines that are absent", "; ".join(f"{name}: {why}" for name, why in run.missing()) or "none recorded"),
        ("Synthetic", "yes: a phantom, no finding about people" if run.is_phantom else "no"),
        ("Explanations", "Maps show where evidence was read, not where a lesion lies"),
        ("Harms that a wrong answer could do", ""),
        ("Groups for which it was not judged", ""),
    ]


def _counted(column: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in column.value_counts().items())
