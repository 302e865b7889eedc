"""Read an OMOP measurement.csv: HbA1c and BMI of each participant, the median where there are several values.

HbA1c defines the label, so it never becomes a feature or a covariate: it is a ceiling to compare with, and something
that the embedding may be asked about. ``lbscat_a1c`` is haemoglobin, in g/dL, and is not taken.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from classify.errors import CohortError
from embeddings_store.cells import Number, is_missing, read_number
from embeddings_store.text_table import ID_NAMES, Line, TextTable, open_table, read_file

NEEDED = ("measurement_source_value", "value_as_number")
UNIT = "unit_source_value"
IFCC = "mmol/mol"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is taken: rows whose measurement_source_value begins with source; values from low to high, in unit.

    written: what may stand behind the number in its cell; anything else may be part of a range, or another quantity.
    """

    name: str
    source: str
    low: float
    high: float
    unit: str
    written: tuple[str, ...]


QUANTITIES = (
    # 18 mmol/mol would be 3.8 %: the units do not mix
    Quantity("hba1c", "import_hba1c", 3.0, 18.0, "%", ("%", "percent", IFCC)),
    Quantity("bmi", "bmi_vsorres", 10.0, 100.0, "kg/m2", ("kg/m2", "kg/m²", "kg/m^2", "kg/sqm")),
)


@dataclass(frozen=True)
class Measurements:
    """One line a participant (participant, hba1c in %, bmi in kg/m2; NaN: missing), and what was found on the way.

    counts: {quantity: rows, no_number, out_of_range (both are missing), participants, several (of those)}.
    notes: what was mended in the table, with counts.
    """

    table: pd.DataFrame
    counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Give what a run record says of them: no value of anybody."""
        units = {q.name: {"unit": q.unit, "from": q.low, "to": q.high} for q in QUANTITIES}
        found = {name: units[name] | dict(counts) for name, counts in self.counts.items()}
        return {"given": True, "of_several_values": "the median of those in range", "quantities": found}


@dataclass
class _Values:
    """The values of one quantity while the lines go by: of each participant those in range, and what else came."""

    quantity: Quantity
    table: TextTable
    people: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def take(self, line: Line) -> None:
        """Count one line of this quantity, and keep its value where it has one."""
        text, label = line.cells["value_as_number"], line.cells["measurement_source_value"].lower()
        self.counts["rows"] += 1
        if not line.participant:
            raise self.table.refuse("an empty one", "a participant's id", line.number, "person_id")
        number = None if is_missing(text) else read_number(text)
        if number is None or number.unit.replace(" ", "") not in ("", *self.quantity.written):
            self.counts["no_number"] += 1
            self.counts["unreadable"] += not is_missing(text)
            self.example = self.example or ("" if is_missing(text) else f"{text[:20]!r} in line {line.number}")
            return
        value = self._in_own_unit(number, line.cells.get(UNIT, "").lower() or label)
        if not self.quantity.low <= value <= self.quantity.high:
            self.counts["out_of_range"] += 1
            self.example = self.example or f"{text[:20]!r} in line {line.number}"
            return
        self.counts["limits"] += number.bound
        self.counts["commas"] += number.comma
        self.people.setdefault(line.participant, []).append(value)

    def _in_own_unit(self, number: Number, unit: str) -> float:
        """Give HbA1c in %, by the master equation of NGSP and IFCC where the line says mmol/mol."""
        if self.quantity.name == "hba1c" and IFCC in (number.unit or unit).replace(" ", ""):
            self.counts["converted"] += 1
            return round(0.09148 * number.value + 2.152, 2)
        return number.value

    def finish(self) -> pd.Series:
        """Give the median of each participant. Raises: CohortError where more than half cannot be used."""
        q, counts = self.quantity, self.counts
        filled = counts["rows"] - counts["no_number"] + counts["unreadable"]
        unusable = counts["unreadable"] + counts["out_of_range"]
        if counts["rows"] and (2 * unusable > filled or not filled):
            hint = f"; HbA1c in {IFCC} needs that unit in {UNIT}" if q.name == "hba1c" else ""
            found = f"{unusable} of {filled} that are none (the first: {self.example}){hint}"
            raise self._refuse(found if filled else "none at all")
        if 2 * counts["limits"] > filled > 0:
            raise self._refuse(f"{counts['limits']} of {filled} that are limits, such as <5 or >14")
        for name, said in (
            ("commas", "were written with a decimal comma"),
            ("limits", "were written as a limit, such as <5 or >14, and read as that limit"),
            ("converted", f"were converted from {IFCC}"),
            ("unreadable", "are no number and count as missing"),
            ("out_of_range", f"are not between {q.low:g} and {q.high:g} {q.unit} and count as missing"),
        ):
            if counts[name]:
                self.table.notes[f"values of {q.name} {said}"] += counts[name]
        medians = {person: float(pd.Series(values).median()) for person, values in self.people.items()}
        return pd.Series(medians, dtype="float64", name=q.name)

    def _refuse(self, found: str) -> CohortError:
        q = self.quantity
        expected = f"values of {q.name} between {q.low:g} and {q.high:g} {q.unit}"
        return CohortError(str(self.table.refuse(found, expected, column="value_as_number")))

    def to_counts(self) -> dict[str, int]:
        """Give the counts of a run record."""
        shown = {name: self.counts[name] for name in ("rows", "no_number", "out_of_range")}
        several = sum(len(values) > 1 for values in self.people.values())
        return shown | {"participants": len(self.people), "several": several}


def read_measurements(path: Path) -> Measurements:
    """Read the table line by line. Raises: CohortError where it is missing, no such table, or mostly unusable."""
    where = f"--measurements {path.name}"
    table = open_table(read_file(path, where, CohortError), where, CohortError, (*ID_NAMES, *NEEDED, UNIT))
    if not any(map(table.has, ID_NAMES)):
        raise table.refuse(", ".join(table.names[:8]), f"a column {' or '.join(ID_NAMES)}")
    found = [_Values(quantity, table) for quantity in QUANTITIES]
    for line in table.read(NEEDED, (UNIT,)):
        source = line.cells["measurement_source_value"].lower()
        for values in found:
            if source.startswith(values.quantity.source):
                values.take(line)
    if not any(values.counts["rows"] for values in found):
        raise CohortError(
            f"{where}: expected rows of {' or '.join(q.source for q in QUANTITIES)} in measurement_source_value, "
            f"found none; give the dataset's own measurement.csv"
        )
    people = pd.concat([values.finish() for values in found], axis=1).sort_index()
    people = people.rename_axis("participant").reset_index()
    return Measurements(people, {one.quantity.name: one.to_counts() for one in found}, tuple(table.said()))
