"""A snapshot as the table of a notebook: who and what in the first columns, then labels, then numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from embeddings_store.cells import MISSING_WORDS, normalise_id
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say
from embeddings_store.text_table import ID_NAMES, open_table, read_file, require_match

if TYPE_CHECKING:
    from embeddings_store.snapshot import Snapshot

IDS = ("volume", "participant", "eye", "device", "protocol", "site")
FEATURES, RAW, LAYER, POOL, SPACE = "features", "raw", "layer", "pool", "space"
"""What the attrs of a frame say of its numbers."""

VOLUME, PARTICIPANT, EYE = "volume", "participant", "eye"
WHERE = "labels"

Labels = str | Path | pd.DataFrame


def make_frame(found: "Snapshot", layer: str | None, pool: str | None, labels: Labels | None) -> pd.DataFrame:
    """Do what Snapshot.frame says."""
    layer = layer or found.layers[-1]
    pool = pool or ("mean" if "mean" in found.pools else found.pools[0])
    for kind, name, known in (("layer", layer, found.layers), ("pool", pool, found.pools)):
        if name not in known:
            raise UsageError(f"{kind} {name!r}: expected one of {', '.join(known)}")
    vectors = found.pooled[:, found.layers.index(layer), found.pools.index(pool)]
    ids = found.index[[name for name in IDS if name in found.index]].reset_index(drop=True)
    numbers = pd.DataFrame(vectors, columns=[f"{layer}_{pool}_{channel:03d}" for channel in range(vectors.shape[1])])
    parts = [ids, numbers] if labels is None else [ids, join_labels(ids, labels), numbers]
    table = pd.concat(parts, axis=1)
    table.attrs |= {FEATURES: RAW, LAYER: layer, POOL: pool, SPACE: found.space.to_dict()}
    return table


def join_labels(ids: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return the columns of labels, one line a line of ids; volumes without any have NaN, and are counted in a note.

    Joined by volume where labels name volumes, else by participant, and by eye too where there is such a column.
    Raises: UsageError for labels without an id, doubles, an id in a spoilt form, a column that ids have too, or ids of
    which under half meet those of the store.
    """
    table = labels.copy() if isinstance(labels, pd.DataFrame) else read_labels(Path(labels))
    table = _name_keys(table)
    keys = [VOLUME] if VOLUME in table else [PARTICIPANT, *([EYE] if EYE in table else [])]
    others = [name for name in table.columns if name not in {VOLUME, PARTICIPANT, EYE}]
    if taken := sorted(set(others) & set(ids.columns)):
        raise UsageError(f"{WHERE}: the column {taken[0]!r} stands for something of the store; rename or drop it")
    if not others:
        raise UsageError(f"{WHERE}: expected a column next to {', '.join(keys)}, got none")
    if EYE in keys and (odd := sorted(set(table[EYE].astype(str)) - {"L", "R", "U"})):
        raise UsageError(f"{WHERE}: column eye: expected L, R or U, got {odd[0]!r}")
    doubles = int(table.duplicated(keys).sum())
    if doubles:
        raise UsageError(f"{WHERE}: expected one line per {' and '.join(keys)}, got {doubles} more; drop or join them")
    for key in keys[:1]:
        require_match(frozenset(table[key]), frozenset(ids[key]), WHERE, UsageError, "the store")
    joined = ids[keys].merge(table[[*keys, *others]], on=keys, how="left", validate="m:1", indicator=True)
    if without := int((joined["_merge"] == "left_only").sum()):
        say(f"{WHERE}: {without:,} of {len(ids):,} volumes have none")
    return joined[others]


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of text as one that labels may be, whatever saved it; columns of numbers become numbers."""
    where = f"{WHERE} {path.name}"
    known = (*ID_NAMES, PARTICIPANT, VOLUME)
    table = open_table(read_file(path, where, UsageError), where, UsageError, known)
    names = [name for name in table.names if name]
    lines = [dict(line.cells) for line in table.read(want=names)]
    for note in table.said():
        say(note)
    return pd.DataFrame({name: _typed([line[name] for line in lines]) for name in names})


def _name_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Call the columns of ids volume and participant, whatever labels call them, and bring the ids into one form."""
    if table.index.name in {*ID_NAMES, PARTICIPANT, VOLUME}:
        table = table.reset_index()
    found = [name for name in (*ID_NAMES, PARTICIPANT) if name in table]
    if len(found) > 1 or not (found or VOLUME in table):
        named = ", ".join(found) or ", ".join(map(str, table.columns[:8]))
        raise UsageError(f"{WHERE}: expected one column {', '.join(ID_NAMES)}, participant or volume, got {named}")
    table = table.rename(columns=dict.fromkeys(found, PARTICIPANT))
    for key in [name for name in (VOLUME, PARTICIPANT) if name in table]:
        if missing := int(table[key].isna().sum()):
            raise UsageError(f"{WHERE}: column {key}: expected an id in every line, got {missing} without; drop them")
        table[key] = [normalise_id(str(one)) for one in table[key]]
    return table


def _typed(cells: Sequence[str]) -> "pd.Series[float] | pd.Series[str]":
    """Return numbers where every cell is one or missing, and none has a leading zero; else text, None where empty."""
    said = [one for one in cells if one.lower() not in MISSING_WORDS]
    if said and not any(one.startswith("0") and one[1:2].isdigit() for one in said):
        numbers = pd.to_numeric(pd.Series(said, dtype="object"), errors="coerce")
        if np.isfinite(numbers).all():
            whole = pd.to_numeric(pd.Series([None if one.lower() in MISSING_WORDS else one for one in cells]))
            return pd.Series(whole)
    return pd.Series([one or None for one in cells], dtype="object")
