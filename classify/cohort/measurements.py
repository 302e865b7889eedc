"""Read an OMOP measurement.csv: HbA1c and BMI of each participant, the median where there are several values.

HbA1c defines the label, so it never becomes a feature or a covariate: it is a ceiling to compare with, and something
that the embedding may be asked about. ``lbscat_a1c`` is haemoglobin, in g/dL, and is not taken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from classify.errors import CohortError

NEEDED = ("person_id", "measurement_source_value", "value_as_number")
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is taken: rows whose measurement_source_value begins with source; values from low to high, in unit."""

    name: str
    source: str
    low: float
    high: float
    unit: str


QUANTITIES = (
    Quantity("hba1c", "import_hba1c", 3.0, 18.0, "%"),  # 18 mmol/mol would be 3.8 %: the units do not mix
    Quantity("bmi", "bmi_vsorres", 10.0, 100.0, "kg/m2"),
)


@dataclass(frozen=True)
class Measurements:
    """One line a participant (participant, hba1c in %, bmi in kg/m2; NaN: missing), and what was found on the way.

    counts: {quantity: rows, no_number, out_of_range (both are missing), participants, several (of those)}.
    """

    table: pd.DataFrame
    counts: Mapping[str, Mapping[str, int]]

    def to_record(self) -> dict[str, Any]:
        """Give what a run record says of them: no value of anybody."""
        units = {q.name: {"unit": q.unit, "from": q.low, "to": q.high} for q in QUANTITIES}
        found = {name: units[name] | dict(counts) for name, counts in self.counts.items()}
        return {"given": True, "of_several_values": "the median of those in range", "quantities": found}


def read_measurements(path: Path) -> Measurements:
    """Read the table block by block. Raises: CohortError where it is missing, or is no such table."""
    parts = list(_blocks(path))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(NEEDED), dtype=str)
    kept = [_keep(rows, quantity) for quantity in QUANTITIES]
    if not any(counts["rows"] for _, counts in kept):
        raise CohortError(
            f"--measurements {path.name}: expected rows of {' or '.join(q.source for q in QUANTITIES)} in "
            f"measurement_source_value, found none; give the dataset's own measurement.csv"
        )
    table = pd.concat([values for values, _ in kept], axis=1).sort_index().rename_axis("participant").reset_index()
    return Measurements(table, {q.name: counts for q, (_, counts) in zip(QUANTITIES, kept, strict=True)})


def _blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Give the rows of the wanted quantities as text, without ever holding the whole file."""
    if not path.is_file():
        raise CohortError(f"--measurements {path}: expected an OMOP measurement.csv, found no file; check the path")
    types = dict.fromkeys(NEEDED, pa.string())
    convert = pyarrow.csv.ConvertOptions(include_columns=list(NEEDED), column_types=types)
    read = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES)
    try:
        with pyarrow.csv.open_csv(path, read_options=read, convert_options=convert) as reader:
            for block in reader:
                source = block.column("measurement_source_value")
                wanted = [pc.starts_with(pc.utf8_ltrim_whitespace(source), quantity.source) for quantity in QUANTITIES]
                yield block.filter(pc.or_(*wanted)).to_pandas()
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise CohortError(
            f"--measurements {path.name}: expected UTF-8 text with commas and the columns {', '.join(NEEDED)}, "
            f"got: {error}"
        ) from error


def _keep(rows: pd.DataFrame, quantity: Quantity) -> tuple[pd.Series, dict[str, int]]:
    """Give the median of each participant, and the counts."""
    source = rows["measurement_source_value"].str.strip()
    chosen = rows[source.str.startswith(quantity.source)]
    value = pd.to_numeric(chosen["value_as_number"], errors="coerce").astype("float64")
    usable = value.between(quantity.low, quantity.high)
    by_person = value[usable].groupby(chosen.loc[usable, "person_id"].str.strip())
    counts = {
        "rows": len(chosen),
        "no_number": int(value.isna().sum()),
        "out_of_range": int((value.notna() & ~usable).sum()),
        "participants": by_person.ngroups,
        "several": int((by_person.size() > 1).sum()),
    }
    return by_person.median().rename(quantity.name), counts
