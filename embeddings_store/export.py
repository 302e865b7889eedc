"""Handing the pooled vectors on to people without Zarr: one Parquet table, or a NumPy matrix beside its index.

A table holds one line a volume: the index, the file's facts, and a column a number, "last.mean.0042" (layer, pool,
channel): `table.filter(like="last.mean.")` is a matrix in pandas, and R or DuckDB read it too; a list column is not.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embeddings_store.errors import StoreError, UsageError
from embeddings_store.plain_text import for_spreadsheets
from embeddings_store.publish import published
from embeddings_store.snapshot import Snapshot, read_features_source, read_snapshot

ROW_GROUP_ROWS = 8192
METADATA_KEY = b"octprobe"


def export_store(
    url: str, out: Path, format_name: str, *, number: int | None = None, endpoint_url: str | None = None
) -> dict[str, Any]:
    """Write a snapshot, the newest state by default, to a new file (parquet) or folder (npy); give what was written.

    Written aside and then renamed. Raises UsageError for another format or an ``out`` that exists; StoreError.
    """
    if format_name not in WRITERS:
        raise UsageError(f"--format: expected one of {', '.join(WRITERS)}, got {format_name!r}")
    if "://" in str(out) or out.exists() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: expected a new name in a local folder that exists")
    found = _source(url, number, endpoint_url)
    try:
        with published(out) as aside:
            WRITERS[format_name](found, aside)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror}; nothing was left there") from error
    rows, layers, pools, width = found.pooled.shape
    return {
        "out": str(out),
        "format": format_name,
        "rows": rows,
        "numbers_a_row": layers * pools * width,
        "source": found.note,
        "space_id": found.space_id,
    }


def feature_names(found: Snapshot) -> list[str]:
    """Name the numbers of a row in their order: "last.mean.0042" is channel 42 of the mean over the last layer."""
    channels = range(found.pooled.shape[-1])
    return [f"{layer}.{pool}.{channel:04d}" for layer in found.layers for pool in found.pools for channel in channels]


def _source(url: str, number: int | None, endpoint_url: str | None) -> Snapshot:
    if number is None:
        return read_features_source(url, endpoint_url=endpoint_url)
    return read_snapshot(url, number, endpoint_url=endpoint_url)


def _write_parquet(found: Snapshot, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    matrix = np.ascontiguousarray(found.pooled.reshape(len(found.pooled), -1).T)
    table = pa.Table.from_pandas(found.index, preserve_index=False)
    features = pa.Table.from_arrays([pa.array(column) for column in matrix], names=feature_names(found))
    whole = pa.Table.from_arrays([*table.columns, *features.columns], names=table.column_names + features.column_names)
    metadata = {METADATA_KEY: json.dumps(_origin(found)).encode()}
    pq.write_table(
        whole.replace_schema_metadata(metadata), file, compression="zstd", row_group_size=ROW_GROUP_ROWS,
        use_dictionary=table.column_names,
    )  # fmt: skip


def _write_npy(found: Snapshot, folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "pooled.npy", found.pooled)
    for_spreadsheets(pd.DataFrame(found.index)).to_csv(folder / "index.csv", index=False)
    (folder / "origin.json").write_text(json.dumps(_origin(found), indent=1))


def _origin(found: Snapshot) -> dict[str, Any]:
    return {
        "space": found.space.to_dict(),
        "space_id": found.space_id,
        "snapshot": found.number,
        "source": found.note,
        "layers": list(found.layers),
        "pools": list(found.pools),
    }


WRITERS: dict[str, Callable[[Snapshot, Path], None]] = {"parquet": _write_parquet, "npy": _write_npy}
