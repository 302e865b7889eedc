"""Put HbA1c and BMI beside a cohort, and refuse them, and all else that makes the label, as a covariate."""

import re
from collections.abc import Iterable
from dataclasses import replace

from classify.cohort.measurements import QUANTITIES, Measurements
from classify.cohort.questions import STUDY_GROUP, Task
from classify.cohort.table import Cohort, insert_notes
from classify.errors import LeakError
from classify.run.record import FlowStep
from embeddings_store.text_table import fold_name

SITES = ("site", "clinical_site", "center", "centre")
AGES = ("age", "age_years")

LABEL_DEFINING = re.compile(r"(?<!lbscat_)a1c|gluco|insulin|c[-_ ]?peptide|diabet|study_?group|medicat", re.IGNORECASE)
"""HbA1c, glucose, insulin, C-peptide, conditions and medication decide the study group; lbscat_a1c is haemoglobin."""


def covariate_name(name: str) -> str:
    """Return the name that a column of labels has as a covariate: age or site, whatever the table calls them.

    >>> covariate_name("Clinical Site"), covariate_name("IOP")
    ('site', 'IOP')
    """
    folded = fold_name(name)
    return "site" if folded in SITES else "age" if folded in AGES else name


def refuse_label_defining(covariates: Iterable[str], task: Task) -> None:
    """Raise LeakError where a covariate is the target, or what the study group was made from."""
    for name in covariates:
        if fold_name(covariate_name(name)) == fold_name(covariate_name(task.target)):
            raise LeakError(f"covariate {name}: refused: it is the target itself")
    if task.target != STUDY_GROUP:
        return
    for name in covariates:
        if LABEL_DEFINING.search(name):
            raise LeakError(
                f"covariate {name}: refused: it defines the study group, so a model that is given it is asked nothing "
                f"about the retina; HbA1c stands next to every result as a ceiling instead (--measurements)"
            )


def add_measurements(cohort: Cohort, measurements: Measurements) -> Cohort:
    """Put the measurements of the analysed participants beside a cohort; who has none is counted in the flow."""
    people = cohort.table["participant"].unique().tolist()
    clinical = measurements.table.set_index("participant").reindex(people).rename_axis("participant").reset_index()
    notes = [_note_missing(cohort, clinical.loc[clinical[q.name].isna(), "participant"], q.name) for q in QUANTITIES]
    return replace(
        cohort, clinical=clinical, flow=insert_notes(cohort.flow, [note for note in notes if note["participants"]])
    )


def _note_missing(cohort: Cohort, missing: Iterable[str], name: str) -> FlowStep:
    rows = cohort.table[cohort.table["participant"].isin(list(missing))]
    reason = f"no usable {name} in the measurements; kept, and marked where {name} stands next to the result"
    people = int(rows["participant"].nunique())
    return {"step": f"{name} missing", "kind": "note", "volumes": len(rows), "participants": people, "reason": reason}
