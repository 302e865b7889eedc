"""From stored vectors to feature rows: which layer, which pools, whose label, how heavy."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from scipy.sparse import csc_array

from classify.cohort.table import Cohort
from classify.cohort.units import PARTICIPANT, name_units
from classify.features.standardise import Standardiser
from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.space import VIEW, EmbeddingSpace

LONGEST_NAME, MOST_VIEWS = 200, 1000


@dataclass(frozen=True)
class FeatureChoice:
    """Which stored vectors become features: a layer, and its pools side by side in the order given.

    token_grid: the patch tokens of the layer on this grid (D, H, W) instead of the pools, which are then (). views: how
    many augmented views of each volume of train a head learns from as well; nothing is ever judged by them. mirror: the
    tokens of left eyes from right to left, so that a place means the same (nasal, temporal) in both eyes.
    """

    layer: str = "last"
    pools: tuple[str, ...] = ("mean",)
    token_grid: Grid | None = None
    views: int = 0
    mirror: bool = False

    @classmethod
    def of_record(cls, raw: Any) -> "FeatureChoice":
        """Read what was written of a choice; older records have fewer fields. Raises: ValueError."""
        if not isinstance(raw, dict) or not raw.keys() <= {one.name for one in fields(cls)}:
            raise ValueError("features: expected a layer, pools, token_grid, views and mirror")
        plain = cls()
        layer, pools, grid = raw.get("layer", plain.layer), raw.get("pools", []), raw.get("token_grid")
        views, mirror = raw.get("views", plain.views), raw.get("mirror", plain.mirror)
        names = [layer, *pools] if isinstance(pools, list) else [None]
        if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names):
            raise ValueError("features: expected the names of a layer and of its pools")
        if grid is not None and not (isinstance(grid, list) and len(grid) == 3 and {*map(type, grid)} == {int}):
            raise ValueError("features: expected a token grid of three numbers, or none")
        if (grid is None) == (not pools) or (grid and min(grid) < 1):
            raise ValueError("features: expected pools, or a token grid, and not both")
        if type(views) is not int or not 0 <= views <= MOST_VIEWS or type(mirror) is not bool:
            raise ValueError("features: expected a number of views, and true or false of mirror")
        return cls(layer, tuple(pools), (grid[0], grid[1], grid[2]) if grid else None, views, mirror)


@dataclass(frozen=True)
class FeatureTable:
    """One row a volume; x is raw until a standardiser made a standardised copy, which is_standardised says.

    names: one a feature, "layer/pool/channel"; "layer/d0h1w2/channel" of patch tokens. y: class numbers, or the numbers
    that are asked for. level: participant, eye or volume, whose label it is. space: id of the embedding space. tokens:
    how many vectors lie side by side in a row, one after another. views: the same features of augmented views of each
    volume.
    """

    x: Float32[np.ndarray, "n d"]
    y: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]
    volume: Shaped[np.ndarray, " n"]
    participant: Shaped[np.ndarray, " n"]
    eye: Shaped[np.ndarray, " n"]
    protocol: Shaped[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]
    names: tuple[str, ...]
    space: str
    tokens: int = 1
    views: Float32[np.ndarray, "n K d"] | None = None
    is_standardised: bool = False
    level: str = PARTICIPANT

    @property
    def unit(self) -> Shaped[np.ndarray, " n"]:
        """Name of the judged unit of each row."""
        return name_units(self.level, self.participant, self.eye, self.volume)

    def where(self, chosen: Shaped[np.ndarray, " rows"]) -> "FeatureTable":
        """Keep the rows of a mask or of positions."""
        return replace(
            self, **self._labels(chosen), x=self.x[chosen], views=None if self.views is None else self.views[chosen]
        )

    def _labels(self, chosen: Shaped[np.ndarray, " rows"]) -> dict[str, Any]:
        return {
            name: getattr(self, name)[chosen] for name in ("y", "volume", "participant", "eye", "protocol", "split")
        }

    def of_views(self) -> list["FeatureTable"]:
        """Give each augmented view as a table of its own; none where there are no views."""
        views = [] if self.views is None else list(np.moveaxis(self.views, 1, 0))
        return [replace(self, x=np.ascontiguousarray(view), views=None) for view in views]

    def only(self, split: str) -> "FeatureTable":
        """Keep one split."""
        return self.where(self.split == split)

    def standardised(self, standardiser: Standardiser, rows: Int64[np.ndarray, " m"] | None = None) -> "FeatureTable":
        """Copy with x, and the views, standardised within protocol; rows: those to keep, or all.

        Raises: UsageError where they are standardised already.
        """
        if self.is_standardised:
            raise UsageError("features: expected raw ones, got standardised ones; a model standardises them itself")
        views = [standardiser.transform(view.x, self.protocol, rows) for view in self.of_views()]
        return replace(
            self,
            **({} if rows is None else self._labels(rows)),
            x=standardiser.transform(self.x, self.protocol, rows),
            views=np.stack(views, axis=1).astype(np.float32) if views else None,
            is_standardised=True,
        )

    def pooled(self) -> "FeatureTable":
        """Average the vectors of each row, for what looks at one vector a volume; itself where there is one."""
        if self.tokens == 1:
            return self
        vectors = self.x.reshape(len(self.x), self.tokens, -1)
        names = [name.split("/") for name in self.names[: vectors.shape[2]]]
        mean = vectors.mean(axis=1, dtype=np.float64).astype(np.float32)
        return replace(self, x=mean, names=tuple(f"{layer}/mean/{channel}" for layer, _, channel in names), tokens=1)


def make_features(
    cohort: Cohort,
    pooled: Float32[np.ndarray, "rows L P C"],
    space: EmbeddingSpace,
    *,
    layer: str,
    pools: Sequence[str],
    views: int = 0,
) -> FeatureTable:
    """Take one layer and some pools of every volume of the cohort, pools side by side in the order asked for.

    views: how many augmented views to take along. Raises: UsageError where the store does not hold the layer, a pool
    or as many views.
    """
    if views > space.view_count:
        raise UsageError(
            f"--views {views}: the store holds {space.view_count} augmented views of each volume; "
            f"make more with extract-embeddings --views, into another store"
        )
    whole = np.array_equal(cohort.position, np.arange(len(pooled)))
    rows, depth = slice(None) if whole else cohort.position, _find("--layer", layer, space.layers)

    def take(names: Sequence[str]) -> np.ndarray:
        parts = [pooled[rows, depth, _find("--pool", name, space.pools)] for name in names]
        side_by_side = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # one pool of all is no copy
        return np.ascontiguousarray(side_by_side, dtype=np.float32)

    names = tuple(f"{layer}/{pool}/{channel:03d}" for pool in pools for channel in range(pooled.shape[-1]))
    table = table_of(cohort, take(pools), names, space)
    seen = [take([f"{pool}{VIEW}{number}" for pool in pools]) for number in range(1, views + 1)]
    return replace(table, views=np.stack(seen, axis=1)) if seen else table


def table_of(
    cohort: Cohort, x: Float32[np.ndarray, "n d"], names: tuple[str, ...], space: EmbeddingSpace, *, tokens: int = 1
) -> FeatureTable:
    """Put features, one row a line of the cohort's table, beside what the cohort says of each volume."""
    table = cohort.table
    return FeatureTable(
        x=x,
        y=table["label"].to_numpy(),
        volume=table["volume"].to_numpy(str),
        participant=table["participant"].to_numpy(str),
        eye=table["eye"].to_numpy(str),
        protocol=table["protocol"].to_numpy(str),
        split=table["split"].to_numpy(str),
        names=names,
        space=space.id,
        tokens=tokens,
        level=cohort.task.judged,
    )


def count_constant(table: FeatureTable) -> int:
    """Count the features that never vary; a look at a thousand rows at a time."""
    varies = np.zeros(table.x.shape[1], dtype=bool)
    for start in range(0, len(table.x), 1000):
        varies |= (table.x[start : start + 1000] != table.x[0]).any(axis=0)
    return int((~varies).sum())


def unit_weights(
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    unit: Shaped[np.ndarray, " n"],
    *,
    balanced: bool = True,
) -> Float64[np.ndarray, " n"]:
    """Weigh volumes so that classes weigh the same, units (participants) of a class the same, and volumes of a unit.

    The weights sum to the number of units, whatever the number of scans. Not balanced: every unit weighs one, whatever
    the class; so it is of numbers, which are no classes.
    """
    balanced = balanced and not np.issubdtype(label.dtype, np.floating)
    _, first, inverse, volumes = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)
    weight_of_person = np.ones(len(first))
    if balanced:
        _, class_number, people_of_class = np.unique(label[first], return_inverse=True, return_counts=True)
        weight_of_person = len(first) / (len(people_of_class) * people_of_class[class_number])
    return np.asarray((weight_of_person / volumes)[inverse], dtype=np.float64)


def sum_rows(
    group: Int64[np.ndarray, " n"], rows: Float[np.ndarray, "n d"], groups: int
) -> Float64[np.ndarray, "groups d"]:
    """Add up the rows of each group, numbered from 0, in their order; 0 for a group without rows."""
    there = csc_array((np.ones(len(group)), group, np.arange(len(group) + 1)), shape=(groups, len(group)))
    return np.asarray(there @ rows)


def _find(option: str, name: str, stored: Sequence[str]) -> int:
    if name not in stored:
        raise UsageError(f"{option}: the store holds {', '.join(stored)}; got {name!r}")
    return list(stored).index(name)
