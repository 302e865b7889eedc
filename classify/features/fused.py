"""Several stores in one: the vectors of the same scans, or of the same units, side by side.

What comes out is a snapshot like any other, in a space that names every store with its own space, in order: a run
that was made of it knows all of them, and the same stores have to be given again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from hashlib import sha256
from itertools import chain
from operator import or_
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from classify.cohort.identity import mark_volumes, other_objects
from classify.cohort.questions import Level
from classify.cohort.table import NOT_IN
from classify.cohort.units import EYE, PARTICIPANT, name_eyes
from classify.errors import CohortError
from classify.features.table import sum_rows
from embeddings_store.encoder_source import EncoderSource, Training
from embeddings_store.errors import UsageError
from embeddings_store.schema import Note
from embeddings_store.snapshot import Snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.thumbnails import Thumbnails

FAMILY, STORES = "fused", "stores"
NAMED = "named_by"
"""The volume that a unit's row is known by, while units are brought together."""

KEPT = ("layers", "pools", "views", "token_grid", "token_dtype", "token_cosine_error")
KEY = "key"
BEST_FIRST: tuple[Training, ...] = ("trained", "unclear", "barely", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedSnapshot(Snapshot):
    """A snapshot of several stores. parts: each store's own vectors, by its name, on the rows of all.

    marked: of rows that are units, what every volume of every store is known by, as mark_volumes gives it.
    """

    parts: Mapping[str, Snapshot]
    marked: pd.DataFrame | None = None


def mark_all(stored: Snapshot) -> pd.DataFrame:
    """Do mark_volumes; of units, whose rows name one volume each, give a line of every volume behind them, too."""
    lines = mark_volumes(stored)
    if not isinstance(stored, FusedSnapshot) or stored.marked is None:
        return lines
    further = stored.marked[~stored.marked["volume"].isin(lines["volume"])]
    return pd.concat([lines, further.reindex(columns=lines.columns)], ignore_index=True)


def fuse(stores: Mapping[str, Snapshot], level: Level) -> FusedSnapshot:
    """Put stores side by side, volume by volume where they share keys, else unit by unit of the task's level.

    Layers and pools are those that all of them hold; channels follow each other in the order of the stores. A row that
    a store lacks stays, with NaN and its name in NOT_IN. Raises: UsageError where they share no layer or pool;
    CohortError where they share nobody, or a key is another scan or another person's in each.
    """
    for name, stored in stores.items():
        if stored.index.empty or stored.index["volume"].duplicated().any():
            raise CohortError(f"--store {name}: expected volumes, each once, got none or one twice; see verify")
    layers, pools = _shared(stores, "layers"), _shared(stores, "plain_pools")
    taken = {name: _take(stored, layers, pools) for name, stored in stores.items()}
    keys, marked = [set(stored.index["volume"]) for stored in taken.values()], None
    by = KEY if set.intersection(*keys) else level
    if by == KEY:
        _refuse_unlike(taken)
    elif level == "scan":
        raise CohortError(
            f"--store {', '.join(stores)}: the labels are of scans, but the stores share no key; give stores of the "
            "same files, or labels of eyes or participants"
        )
    else:
        marked = pd.concat([mark_volumes(stored) for stored in stores.values()]).drop_duplicates("volume")
        taken = {name: _mean_units(stored, level) for name, stored in taken.items()}
    found = replace(_side_by_side(taken, by), marked=marked)
    whole = found.index[NOT_IN] == ""
    if not whole.any():
        raise CohortError(f"--store {', '.join(stores)}: the stores share no {by}; they hold different people")
    return found


def _shared(stores: Mapping[str, Snapshot], what: str) -> tuple[str, ...]:
    """List what all stores have, in the order of the first."""
    held = {name: tuple(getattr(stored.space, what)) for name, stored in stores.items()}
    first, *others = held.values()
    both = tuple(one for one in first if all(one in other for other in others))
    if not both:
        said = "; ".join(f"{name} has {', '.join(names)}" for name, names in held.items())
        raise UsageError(f"--store: the stores share no {what.removeprefix('plain_').removesuffix('s')} ({said})")
    return both


def _take(stored: Snapshot, layers: Sequence[str], pools: Sequence[str]) -> Snapshot:
    """Keep some layers and pools; what else a store keeps is let go."""
    layer, pool = np.ix_([stored.layers.index(one) for one in layers], [stored.pools.index(one) for one in pools])
    kept = {one.name: getattr(stored, one.name) for one in fields(Snapshot)}
    space = replace(stored.space, layers=tuple(layers), pools=tuple(pools), token_grid=None, views=None)
    kept |= {"pooled": stored.pooled[:, layer, pool], "space": space, "layers": tuple(layers), "pools": tuple(pools)}
    return Snapshot(**kept)


def _refuse_unlike(stores: Mapping[str, Snapshot]) -> None:
    """Raises: CohortError where one key is another object, or another person's, in two stores."""
    (first, ours), *others = stores.items()
    own = ours.index.set_index("volume")["participant"]
    for name, theirs in others:
        unlike = other_objects(mark_volumes(ours), mark_volumes(theirs), same_space=False)
        named = theirs.index.set_index("volume")["participant"].reindex(own.index)
        moved = set(own.index[named.notna() & (named != own)])
        if wrong := unlike | moved:
            raise CohortError(
                f"--store {first}, {name}: {len(wrong)} volumes are other scans, or other people's, under the same "
                f"keys ({', '.join(sorted(map(str, wrong))[:3])}); give stores of the same files"
            )


def _mean_units(stored: Snapshot, level: Level) -> Snapshot:
    """Average the vectors of each unit, every eye of a participant alike; constant and broken volumes have no say."""
    index = stored.index.reset_index(drop=True)
    flat = stored.pooled.reshape(len(index), int(np.prod(stored.pooled.shape[1:])))
    sound = np.isfinite(flat).all(axis=1) & ((index["notes"].to_numpy(np.int64) & Note.CONSTANT.value) == 0)
    person, eye = index["participant"].to_numpy(str), index["eye"].to_numpy(str)
    known = np.isin(eye, ["L", "R"])
    if level == EYE:
        sound &= known  # nobody knows whose label it would be
    eyes, flat = _mean_by(flat[sound], name_eyes(person, eye)[sound])
    unit = eyes
    if level == PARTICIPANT:
        unit, flat = _mean_by(flat, np.array([one.rpartition(":")[0] for one in eyes], dtype=str))
    names = name_eyes(person, eye) if level == EYE else person
    if not sound.any():
        raise CohortError(f"--store: no volume can be averaged by {level}: constant, broken, or of an unknown eye")
    lines = index[sound].assign(unit=names[sound]).sort_values(["unit", "volume"])
    groups = lines.groupby("unit", sort=True)
    first = lines.drop_duplicates("unit").set_index("unit").loc[unit]
    told = {
        "device": groups["device"].agg(_names), "protocol": groups["protocol"].agg(_names),
        "notes": groups["notes"].agg(lambda notes: reduce(or_, map(int, notes))),
        "eye": groups["eye"].agg(lambda seen: seen.iloc[0] if len(set(seen)) == 1 else "U"),
    }  # fmt: skip
    first = first.assign(**{name: column.loc[unit] for name, column in told.items()})
    table = first.assign(**{NAMED: first["volume"], "volume": unit}).reset_index(drop=True)
    left = f"; {int((~sound).sum())} volumes have no say in a mean" if not sound.all() else ""
    pooled = flat.reshape(len(unit), *stored.pooled.shape[1:]).astype(np.float32)
    note = f"{stored.note}, means of {len(unit)} {level}s{left}"
    return replace(stored, pooled=pooled, index=table, note=note, thumbnails=None)


def _mean_by(x: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    return names, sum_rows(inverse, x, len(names)) / counts[:, None]


def _names(values: "pd.Series[str]") -> str:
    return "+".join(sorted(set(values.astype(str))))


def _side_by_side(stores: Mapping[str, Snapshot], by: str) -> FusedSnapshot:
    """Put rows of equal volumes side by side; the line of the index is that of the first store that has the row."""
    first = next(iter(stores.values()))
    volumes = list(dict.fromkeys(chain.from_iterable(stored.index["volume"] for stored in stores.values())))
    places = {name: _places(stored, volumes) for name, stored in stores.items()}
    aligned = {name: _align(stored.pooled, places[name]) for name, stored in stores.items()}
    lacking = np.stack([place < 0 for place in places.values()], axis=1)
    lines = pd.concat([stored.index for stored in stores.values()]).drop_duplicates("volume")
    index = lines.set_index("volume").loc[volumes].reset_index()
    names = np.array(list(stores))
    index = index.assign(row=np.arange(len(volumes)), **{NOT_IN: [", ".join(names[row]) for row in lacking]})
    if by != KEY:
        together = [stored.index.set_index("volume")[["device", "protocol"]] for stored in stores.values()]
        for name in ("device", "protocol"):
            column = pd.concat([one[name] for one in together])
            index = index.assign(**{name: column.groupby(level=0).agg(_names).loc[volumes].to_numpy()})
        index = index.assign(volume=index[NAMED]).drop(columns=NAMED)
    thumbnails = None if first.thumbnails is None else _align_thumbnails(first.thumbnails, places[next(iter(stores))])
    shared = int((~lacking.any(axis=1)).sum())
    what = "volumes" if by == KEY else f"{by}s"
    said = "; ".join(f"{name}: {stored.note}" for name, stored in stores.items())
    rest = f", {len(volumes) - shared} in some of them only" if shared < len(volumes) else ""
    note = f"{said}; {shared} {what} in all stores{rest}, joined by {by}"
    parts = {name: replace(stored, pooled=aligned[name], index=index, thumbnails=thumbnails)
             for name, stored in stores.items()}  # fmt: skip
    return FusedSnapshot(
        pooled=np.concatenate(list(aligned.values()), axis=-1), index=index, space=_space_of(stores, by), number=None,
        layers=first.layers, pools=first.pools, origin="snapshot", note=note, encoder=_encoder_of(stores, by),
        thumbnails=thumbnails, md5=dict(chain.from_iterable(stored.md5.items() for stored in stores.values())),
        parts=parts,
    )  # fmt: skip


def _places(stored: Snapshot, volumes: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Give the row of each volume, -1 where the store has none."""
    place = {volume: number for number, volume in enumerate(stored.index["volume"])}
    return np.array([place.get(volume, -1) for volume in volumes], dtype=np.int64)


def _align(pooled: Float32[np.ndarray, "rows L P C"], place: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n L P C"]:
    there = (place >= 0)[:, None, None, None]
    return np.where(there, pooled[np.maximum(place, 0)], np.float32(np.nan))


def _align_thumbnails(thumbnails: Thumbnails, place: Int64[np.ndarray, " n"]) -> Thumbnails:
    found = thumbnails.take(np.maximum(place, 0))
    return Thumbnails(found.images, found.known & (place >= 0))


def _space_of(stores: Mapping[str, Snapshot], by: str) -> EmbeddingSpace:
    spaces = {name: stored.space for name, stored in stores.items()}
    told = [
        {"name": name, "space": {field: value for field, value in space.to_dict().items() if field not in KEPT}}
        for name, space in spaces.items()
    ]
    weights = sha256(" ".join(space.weights_sha256 for space in spaces.values()).encode()).hexdigest()
    precision = "+".join(dict.fromkeys(space.precision for space in spaces.values()))
    width = sum(space.width for space in spaces.values())
    return replace(
        next(iter(spaces.values())), family=FAMILY, weights_sha256=weights, width=width, precision=precision,
        preset={STORES: told, "joined_by": by},
    )  # fmt: skip


def _encoder_of(stores: Mapping[str, Snapshot], by: str) -> EncoderSource | None:
    """Name the encoders of all stores; None where one of them does not say. Trained where one of them is."""
    known = {name: stored.encoder for name, stored in stores.items()}
    sources = {name: source for name, source in known.items() if source is not None}
    if len(sources) < len(known):
        return None
    best = min((source.training for source in sources.values()), key=BEST_FIRST.index)
    reason = "; ".join(f"{name}: {source.describe()}" for name, source in sources.items())
    name = " + ".join(source.name for source in sources.values())
    return EncoderSource(name, FAMILY, _space_of(stores, by).weights_sha256, None, best, reason)


def stores_of_space(space: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the stores of a run's embedding space, in order; () of a run of one store."""
    if space.get("family") != FAMILY:
        return ()
    return tuple(str(one["name"]) for one in space["preset"][STORES])
