"""The pixel floor: what small grey pictures of the scans say of the label, without any encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8
from scipy.linalg import eigh
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from classify.baselines.covariate_models import fit_covariates, line_of_number
from classify.cohort.table import Cohort
from classify.features.standardise import Standardiser

COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
"""Of which the number of principal components is chosen, inside train."""

KEPT = 256
"""Principal directions of train that are looked at at all: more than 64 matter to none of COMPONENTS."""

VANISHING = 1e-9
"""Of the largest variance: below it a direction is rounding."""


Sides = Mapping[str, pd.DataFrame]
"""Tables of participants: "train", and the split that is judged with its name in words."""


@dataclass(frozen=True, slots=True)
class PersonThumbnails:
    """The thumbnails of one participant's scans, with the eye and protocol of each."""

    images: UInt8[np.ndarray, "scans 8 32 32"]
    eye: Shaped[np.ndarray, " scans"]
    protocol: Shaped[np.ndarray, " scans"]


def thumbnails_of_units(cohort: Cohort, split: str) -> pd.DataFrame | None:
    """Return unit and a PersonThumbnails, None where a scan has no thumbnail; None where no scan has any."""
    found = cohort.thumbnails
    if found is None or not found.known.any():
        return None
    unit, eye, protocol = (cohort.unit, *(cohort.table[name].to_numpy(str) for name in ("eye", "protocol")))
    here = np.flatnonzero(cohort.table["split"] == split)
    units = np.unique(unit[here])
    scans = list[PersonThumbnails | None]()
    for one in units:
        rows = here[unit[here] == one]
        whole = bool(found.known[rows].all())
        scans.append(PersonThumbnails(found.images[rows], eye[rows], protocol[rows]) if whole else None)
    return pd.DataFrame({"unit": units, "thumbnails": pd.Series(scans, dtype=object)})


def why_no_pixels(sides: Sides) -> str:
    """Say why the pixel floor cannot be made of these tables of participants; "" where it can."""
    for split, people in sides.items():
        if "thumbnails" not in people.columns:
            return "the store has no thumbnails of its volumes; it was written by an older extract-embeddings"
        if without := int(people["thumbnails"].isna().sum()):
            return f"{without} of {len(people)} participants of {split} have a volume without a thumbnail"
    seen: list[PersonThumbnails] = list(sides["train"]["thumbnails"])
    first = seen[0].images[0]
    return "all thumbnails of train are alike" if all((one.images == first).all() for one in seen) else ""


def predict_by_pixels(
    train: Sequence[PersonThumbnails],
    judged: Sequence[PersonThumbnails],
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    *,
    classes: int,
) -> Float64[np.ndarray, "m k"]:
    """Give log-probabilities of the judged participants, or their number where classes is 0; label: of train.

    Thumbnails are standardised within protocol on train and averaged as an embedding is, scans to eyes to participants;
    then principal components, as many as have the smallest class-balanced log-loss in folds inside train, and a
    logistic regression on them.
    """
    standardiser = Standardiser.fit(
        np.concatenate([one.images.reshape(len(one.images), -1) for one in train]),
        np.concatenate([one.protocol for one in train]),
    )
    fitted_on, asked = (np.stack([_mean(one, standardiser) for one in people]) for people in (train, judged))
    z, z_asked = _rotate(fitted_on, asked)
    most = max(1, min(z.shape[1], len(z) // 2 - 1))
    kinds = {f"{count} components": partial(_model, count, classes) for count in COMPONENTS if count <= most}
    return fit_covariates(z, label, classes=classes, kinds=kinds).logits(z_asked)


def _mean(one: PersonThumbnails, standardiser: Standardiser) -> Float32[np.ndarray, " d"]:
    flat = one.images.reshape(len(one.images), -1).astype(np.float32)
    standard = standardiser.transform(flat, one.protocol)
    return np.asarray(np.mean([standard[one.eye == eye].mean(axis=0) for eye in np.unique(one.eye)], axis=0))


def _rotate(
    train: Float32[np.ndarray, "n d"], judged: Float32[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n r"], Float64[np.ndarray, "m r"]]:
    """Turn both to the principal directions of train: there are fewer participants than pixels, so these lose nothing.

    By the inner products of participants, whose eigenvectors are those of the covariance.
    """
    centre = train.mean(axis=0)
    apart = (train - centre).astype(np.float64)
    variance, vectors = eigh(apart @ apart.T, subset_by_index=[max(0, len(train) - KEPT), len(train) - 1])
    real = variance > VANISHING * variance.max()
    directions = apart.T @ (vectors[:, real] / np.sqrt(variance[real]))
    return apart @ directions, (judged - centre).astype(np.float64) @ directions


def _model(components: int, classes: int) -> Any:
    return make_pipeline(
        PCA(components, whiten=True, svd_solver="covariance_eigh"),
        LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced") if classes else line_of_number(),
    )
