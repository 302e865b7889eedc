"""Read participants.tsv (v2: participant_id, v3: person_id) into one exact table."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from classify.errors import CohortError, LeakError

ID_NAMES = ("participant_id", "person_id")
NEEDED = ("clinical_site", "study_group", "age", "recommended_split")
OLDEST_YEARS = 120

COLUMNS = ("participant", "site", "group", "age", "split", "flagged")
"""site, group, split: text, "" where empty. age: years, NaN where missing. flagged: "TRUE", "FALSE" or ""."""


def read_participants(path: Path) -> pd.DataFrame:
    """Read the participants table: one line a participant, the columns of COLUMNS, sorted by participant.

    Raises: CohortError where the file, a column or an id is missing or a participant stands twice;
    LeakError where a participant stands in two splits.
    """
    raw = _read_text(path)
    id_name = _find_id_column(raw, path)
    if missing := [name for name in NEEDED if name not in raw.columns]:
        raise CohortError(
            f"participants table {path.name}: expected the columns {', '.join((id_name, *NEEDED))}; "
            f"missing: {', '.join(missing)}; give the dataset's own participants.tsv"
        )
    flagged = raw["retinal_oct"].str.upper() if "retinal_oct" in raw.columns else ""
    table = pd.DataFrame(
        {
            "participant": raw[id_name],
            "site": raw["clinical_site"],
            "group": raw["study_group"],
            "age": _read_age_years(raw["age"]),
            "split": raw["recommended_split"].str.lower(),
            "flagged": flagged,
        }
    )
    _refuse_bad_ids(table, path)
    return table.sort_values("participant", ignore_index=True)


def _read_text(path: Path) -> pd.DataFrame:
    """Read every cell as stripped text; utf-8-sig drops the BOM that the dataset's own table may carry."""
    if not path.is_file():
        raise CohortError(f"--participants {path}: expected a tab-separated table, found no file; check the path")
    try:
        raw = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig", quoting=csv.QUOTE_MINIMAL
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CohortError(
            f"participants table {path.name}: expected UTF-8 text with tabs and one header line, got: {error}"
        ) from error
    raw.columns = raw.columns.str.strip()
    for name in raw.columns:
        raw[name] = raw[name].str.strip()
    return raw


def _find_id_column(raw: pd.DataFrame, path: Path) -> str:
    found = [name for name in ID_NAMES if name in raw.columns]
    if len(found) != 1:
        raise CohortError(
            f"participants table {path.name}: expected exactly one of the columns {' or '.join(ID_NAMES)}, "
            f"got {', '.join(raw.columns[:4])} ...; is it tab-separated?"
        )
    return found[0]


def _read_age_years(text: pd.Series) -> pd.Series:
    """Read ages; what is no number between 0 and OLDEST_YEARS is missing (NaN), and counted as such in the flow."""
    age = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return age.where((age >= 0) & (age <= OLDEST_YEARS))


def _refuse_bad_ids(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise CohortError(f"participants table {path.name}: expected at least one participant, got a header alone")
    if count := int((table["participant"] == "").sum()):
        raise CohortError(f"participants table {path.name}: {count} lines have no id; fill or delete them")
    splits = table.groupby("participant")["split"].nunique()
    if leaked := sorted(splits.index[splits > 1]):
        raise LeakError(f"participants in two splits of {path.name}: {', '.join(leaked)}; keep one split for each")
    if count := int(table["participant"].duplicated().sum()):
        raise CohortError(
            f"participants table {path.name}: {count} participants stand on more than one line; keep one line for each"
        )
