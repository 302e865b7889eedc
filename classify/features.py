"""From stored vectors to feature rows: which layer, which pools, whose label, how heavy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from classify.cohort.table import Cohort
from classify.cohort.tasks import find_task
from classify.errors import RunFolderError
from classify.run import MODEL, Run
from classify.standardise import Standardiser
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot, read_features_source
from embeddings_store.space import EmbeddingSpace


@dataclass(frozen=True)
class FeatureTable:
    """One row a volume; x is raw until a standardiser made a standardised copy.

    names: one a feature, "layer/pool/channel". y: class numbers. space: id of the embedding space.
    """

    x: Float32[np.ndarray, "n d"]
    y: Int64[np.ndarray, " n"]
    volume: Shaped[np.ndarray, " n"]
    participant: Shaped[np.ndarray, " n"]
    eye: Shaped[np.ndarray, " n"]
    protocol: Shaped[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]
    names: tuple[str, ...]
    space: str

    def where(self, chosen: Shaped[np.ndarray, " rows"]) -> "FeatureTable":
        """Keep the rows of a mask or of positions."""
        rows = {name: getattr(self, name)[chosen] for name in ("x", "y", "volume", "participant", "eye", "protocol")}
        return FeatureTable(**rows, split=self.split[chosen], names=self.names, space=self.space)

    def only(self, split: str) -> "FeatureTable":
        """Keep one split."""
        return self.where(self.split == split)

    def standardised(self, standardiser: Standardiser) -> "FeatureTable":
        """Copy with x standardised within protocol."""
        rows = {name: getattr(self, name) for name in ("y", "volume", "participant", "eye", "protocol", "split")}
        x = standardiser.transform(self.x, self.protocol)
        return FeatureTable(x=x, **rows, names=self.names, space=self.space)


def make_features(
    cohort: Cohort,
    pooled: Float32[np.ndarray, "rows L P C"],
    space: EmbeddingSpace,
    *,
    layer: str,
    pools: Sequence[str],
) -> FeatureTable:
    """Take one layer and some pools of every volume of the cohort, pools side by side in the order asked for.

    Raises: UsageError where the store does not hold the layer or a pool.
    """
    layer_number = _find("--layer", layer, space.layers)
    pool_numbers = [_find("--pool", pool, space.pools) for pool in pools]
    chosen = pooled[cohort.position, layer_number][:, pool_numbers]
    channels = pooled.shape[-1]
    table = cohort.table
    return FeatureTable(
        x=np.ascontiguousarray(chosen.reshape(len(table), -1), dtype=np.float32),
        y=table["label"].to_numpy(np.int64),
        volume=table["volume"].to_numpy(str),
        participant=table["participant"].to_numpy(str),
        eye=table["eye"].to_numpy(str),
        protocol=table["protocol"].to_numpy(str),
        split=table["split"].to_numpy(str),
        names=tuple(f"{layer}/{pool}/{channel:03d}" for pool in pools for channel in range(channels)),
        space=space.id,
    )


def participant_weights(
    label: Int64[np.ndarray, " n"], participant: Shaped[np.ndarray, " n"], *, balanced: bool = True
) -> Float64[np.ndarray, " n"]:
    """Weigh volumes so that classes weigh the same, participants of a class the same, and volumes of a participant too.

    The weights sum to the number of participants, whatever the number of scans. Not balanced: every participant
    weighs one, whatever the class.
    """
    _, first, inverse, volumes = np.unique(participant, return_index=True, return_inverse=True, return_counts=True)
    weight_of_person = np.ones(len(first))
    if balanced:
        _, class_number, people_of_class = np.unique(label[first], return_inverse=True, return_counts=True)
        weight_of_person = len(first) / (len(people_of_class) * people_of_class[class_number])
    return np.asarray((weight_of_person / volumes)[inverse], dtype=np.float64)


def rebuild_features(run: Run, store: str, *, endpoint_url: str | None = None) -> FeatureTable:
    """Read the store again and give the standardised features of every volume of a run's cohort, in its order.

    Raises: RunFolderError where the store holds another space, or no longer holds a volume of the run.
    """
    return features_of_run(run, read_features_source(store, endpoint_url=endpoint_url))


def features_of_run(run: Run, snapshot: Snapshot) -> FeatureTable:
    """Do the same on a snapshot that was read already."""
    name = f"run {run.record['id']}"
    if snapshot.space_id != run.record["space"]:
        raise RunFolderError(
            f"{name}: made in the embedding space {run.record['space']}, the store holds {snapshot.space_id}; "
            f"give the store that the run was made from"
        )
    place = {volume: number for number, volume in enumerate(snapshot.index["volume"])}
    if missing := sum(volume not in place for volume in run.cohort["volume"]):
        raise RunFolderError(f"{name}: {missing} of its volumes are not in the store any more")
    position = run.cohort["volume"].map(place).to_numpy(np.int64)
    cohort = Cohort(run.cohort, position, find_task(run.record["task"]), run.record["phantom"], run.record["flow"])
    chosen = run.record["features"]
    raw = make_features(cohort, snapshot.pooled, snapshot.space, layer=chosen["layer"], pools=chosen["pools"])
    return raw.standardised(Standardiser.load(run.folder / MODEL))


def _find(option: str, name: str, stored: Sequence[str]) -> int:
    if name not in stored:
        raise UsageError(f"{option}: the store holds {', '.join(stored)}; got {name!r}")
    return list(stored).index(name)
