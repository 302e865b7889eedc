"""What a run keeps of train for ``classify predict``, beside the head: plain arrays and names, never a pickle.

::

    model/reference/
      standardiser.npz, standardiser.json   of the features below, which may be others than the head's
      novelty.npz                           see NoveltyDetector
      known.npz                             see KnownVolumes
      reference.json                        layer, pools, protocols of train, intensity fences, sizes
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from classify.features.standardise import Standardiser
from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.source import FeatureSource
from classify.model_files import read_arrays, read_object, readable
from classify.reference.fences import IntensityFences, Sizes, read_sizes, sizes_of
from classify.reference.neighbours import KnownVolumes
from classify.reference.novelty import NoveltyDetector, standardised_blocks

REFERENCE = "reference"
_STATE, _NOVELTY, _KNOWN = "reference.json", "novelty.npz", "known.npz"


@dataclass(frozen=True)
class TrainingReference:
    """The training volumes as a new volume is held against them. choice: the pooled vectors that are compared."""

    choice: FeatureChoice
    standardiser: Standardiser
    novelty: NoveltyDetector
    known: KnownVolumes
    protocols: tuple[str, ...]
    fences: IntensityFences
    sizes: Sizes

    @classmethod
    def fit(cls, choice: FeatureChoice, train: FeatureTable, index: pd.DataFrame, *, seed: int) -> "TrainingReference":
        """Learn from the raw pooled features of train and the store's lines of the same volumes, in the same order."""
        standardiser = Standardiser.fit(train.x, train.protocol)
        blocks = standardised_blocks(train, np.arange(len(train.y)), standardiser)
        return cls(
            choice,
            standardiser,
            NoveltyDetector.fit(train, standardiser, seed=seed),
            KnownVolumes.remember(blocks(), train.volume, train.participant, train.y),
            tuple(np.unique(train.protocol).tolist()),
            IntensityFences.fit(index),
            sizes_of(index),
        )

    def save(self, model_folder: Path) -> None:
        """Write the folder of the module's docstring."""
        folder = model_folder / REFERENCE
        folder.mkdir()
        self.standardiser.save(folder)
        np.savez(folder / _NOVELTY, **self.novelty.to_arrays())  # type: ignore[arg-type]  # names are no keywords
        np.savez(folder / _KNOWN, **vars(self.known))
        state = {
            "layer": self.choice.layer,
            "pools": list(self.choice.pools),
            "protocols": list(self.protocols),
            "fences": self.fences.fences,
            "sizes": self.sizes,
        }
        (folder / _STATE).write_text(json.dumps(state, indent=2))

    @classmethod
    def load(cls, model_folder: Path) -> "TrainingReference":
        """Read what save wrote. Raises: RunFolderError where it is missing or damaged."""
        folder = model_folder / REFERENCE
        state = read_object(folder / _STATE)
        with readable(f"{model_folder.name}/{REFERENCE}"):
            found = cls(
                FeatureChoice.of_record({"layer": state["layer"], "pools": state["pools"]}),
                Standardiser.load(folder),
                NoveltyDetector.from_arrays(read_arrays(folder / _NOVELTY)),
                KnownVolumes(**read_arrays(folder / _KNOWN)),
                tuple(map(str, state["protocols"])),
                IntensityFences.from_dict(state["fences"]),
                read_sizes(state.get("sizes", {})),  # none in runs made before sizes were kept
            )
            found.known.check()
            widths = {found.standardiser.mean.shape[1], len(found.novelty.gaussians.centre)}
            if widths != {found.known.direction.shape[1]} or found.standardiser.tokens != 1:
                raise ValueError("expected standardiser, novelty and known volumes of the same features")
            return found


def remember_train(
    features: FeatureChoice, source: FeatureSource, index: pd.DataFrame, *, seed: int
) -> TrainingReference:
    """Keep the train split of a source. features: those of the head; of patch tokens, the layer's first pool stands in.

    index: the store's lines, which source.cohort.position points into.
    """
    choice = features
    if features.token_grid is not None:
        choice = FeatureChoice(features.layer, source.space.plain_pools[:1])
    train = (source.cohort.table["split"] == "train").to_numpy()
    return TrainingReference.fit(
        choice, source.only("train").table(choice), index.iloc[source.cohort.position[train]], seed=seed
    )
