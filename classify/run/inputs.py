"""A digest of everything that a run is made from: equal digests mean the same run again, so it need not be made."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.made_splits import SPLITS_FILE
from embeddings_store.snapshot import Snapshot
from embeddings_store.terminal.provenance import package_versions

WITHOUT_EFFECT = frozenset({"runs", "command", "jobs", "resplit", "store", "endpoint_url", "official_splits"})
"""Options that say where and how, and change no number."""


def digest_inputs(options: Mapping[str, Any], rows_sha256: str) -> str:
    """Digest the options of a verb (files by their content), the rows of its store, and the version of this code."""
    asked = {name: _content(value) for name, value in options.items() if name not in WITHOUT_EFFECT}
    if labels := options.get("labels"):
        asked["splits"] = _content(labels.parent / SPLITS_FILE)
    return sha256(
        json.dumps([asked, rows_sha256, package_versions(("octprobe",))], sort_keys=True).encode()
    ).hexdigest()


def digest_rows(stored: Snapshot) -> str:
    """Digest what a store holds of each volume, whatever the order: its line of the index, its facts, its vectors."""
    lines = stored.index.drop(columns=["row"])
    order = np.lexsort([lines[name].astype(str).to_numpy() for name in ("key", "volume")])
    digest = sha256(stored.space_id.encode())
    digest.update(lines.iloc[order].to_csv(index=False).encode())
    for place in order:
        digest.update(np.ascontiguousarray(stored.pooled[place]).data)
    return digest.hexdigest()


def _content(value: Any) -> Any:
    """Give what a value says: of a file that is there what it holds, wherever it lies."""
    if isinstance(value, Path) or (isinstance(value, str) and value.endswith((".yaml", ".yml"))):
        path = Path(value)
        return sha256(path.read_bytes()).hexdigest() if path.is_file() else str(value)
    return [_content(part) for part in value] if isinstance(value, list | tuple) else value
