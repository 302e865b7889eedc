"""measurement.csv in the shape of OMOP: SYNTHETIC HbA1c and BMI, related to the class as the class is made from HbA1c.

Means and deviations are round numbers around the thresholds that define the groups (below 5.7 %, 5.7 to 6.4 %, from
6.5 %: ADA Standards of Care 2024, section 2), fitted to nobody. One in twenty lacks a value, one in ten has two.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from extract.phantom.participants import Participant

MEASUREMENTS = "clinical_data/measurement.csv"
COLUMNS = (
    "measurement_id",
    "person_id",
    "measurement_concept_id",
    "measurement_date",
    "value_as_number",
    "measurement_source_value",
    "unit_source_value",
    "value_source_value",
)
MARK = "SYNTHETIC PHANTOM"

# Mean and deviation, the first two by class.
HBA1C_PERCENT = ((5.4, 0.25), (5.9, 0.25), (6.9, 0.9), (7.9, 1.2))
BMI = ((27.0, 5.0), (30.0, 6.0), (32.0, 6.5), (32.0, 6.5))
HAEMOGLOBIN_G_DL = (14.0, 1.2)

MISSING_SHARE = 0.05
TWICE_SHARE = 0.1


def measurements_text(people: Sequence[Participant], seed: int) -> str:
    """Write the table, sorted by person; its random numbers are its own, so that it changes nothing else."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    lines = [line for person in sorted(people, key=lambda person: person.id) for line in _lines(person, rng)]
    numbered = ((str(number), *line) for number, line in enumerate(lines, start=1))
    return "".join(",".join(cells) + "\n" for cells in (COLUMNS, *numbered))


def _lines(person: Participant, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Give the lines of one person; haemoglobin, whose name misleads, stands between the others as it does outside."""
    hba1c = np.clip(rng.normal(*HBA1C_PERCENT[person.class_index], size=2), 4.2, 14.0)
    bmi = float(np.clip(rng.normal(*BMI[person.class_index]), 17.0, 60.0))
    haemoglobin = float(rng.normal(*HAEMOGLOBIN_G_DL))
    no_hba1c, no_bmi, twice = (rng.random(3) < (MISSING_SHARE, MISSING_SHARE, TWICE_SHARE)).tolist()
    for value in hba1c[: 0 if no_hba1c else 1 + twice]:
        yield _line(person, value, "3004410", '"import_hba1c, HbA1c (%)"', "%")
    yield _line(person, haemoglobin, "3000963", '"lbscat_a1c, Haemoglobin (g/dL)"', "g/dL")
    if not no_bmi:
        yield _line(person, bmi, "3038553", '"bmi_vsorres, BMI"', "kg/m2")


def _line(person: Participant, value: float, concept: str, source: str, unit: str) -> tuple[str, ...]:
    return (person.id, concept, person.visit.isoformat(), f"{value:.1f}", source, unit, MARK)
