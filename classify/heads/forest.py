"""A forest of randomised trees: scikit-learn grows it, and plain arrays keep it and predict."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.contract import ARRAYS, Head
from classify.model_files import read_arrays

KINDS = ("extra", "random")
BLOCK = 1 << 22
"""Rows x trees that are walked at once."""


class ForestHead(Head):
    """Extremely randomised trees (Geurts, Ernst & Wehenkel 2006), or a random forest (Breiman 2001).

    kind: extra draws the cuts of a tree at random, random looks for the best cut in a bootstrap sample of the rows.
    max_features: share of the features that a split may choose among. min_leaf_share: smallest leaf, as a share of the
    training rows. ordered: whether cuts are to tell class numbers apart, by squared error; the leaves hold the classes'
    shares all the same.

    Learned: the nodes of all trees under each other; feature, threshold, children [nodes, 2] (a leaf has
    itself for both), value [nodes, k] (the classes' shares) and roots [trees].
    """

    name = "forest"
    fits_aside = True
    feature_: Int64[np.ndarray, " nodes"]
    threshold_: Float64[np.ndarray, " nodes"]
    children_: Int64[np.ndarray, "nodes 2"]
    value_: Float64[np.ndarray, "nodes k"]
    roots_: Int64[np.ndarray, " trees"]

    def __init__(
        self,
        *,
        n_estimators: int = 300,
        max_features: float = 0.1,
        min_leaf_share: float = 0.01,
        kind: str = "extra",
        ordered: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.min_leaf_share = min_leaf_share
        self.kind = kind
        self.ordered = ordered
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002 - nothing is held back
    ) -> None:
        from sklearn import ensemble

        if self.kind not in KINDS:
            raise ValueError(f"ForestHead: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        grower = {
            ("extra", False): ensemble.ExtraTreesClassifier, ("random", False): ensemble.RandomForestClassifier,
            ("extra", True): ensemble.ExtraTreesRegressor, ("random", True): ensemble.RandomForestRegressor,
        }  # fmt: skip
        used = weights > 0
        x, y, heaviness = rows[used], codes[used], weights[used] / weights[used].mean()
        forest = grower[self.kind, self.ordered](
            self.n_estimators,
            max_features=self.max_features,
            min_samples_leaf=max(1, round(self.min_leaf_share * int(used.sum()))),
            random_state=0 if self.random_state is None else self.random_state,
        ).fit(x, y, heaviness)
        self._take([one.tree_ for one in forest.estimators_])
        self.value_ = np.zeros((len(self.feature_), len(self.classes_)))
        if self.ordered:
            for leaf in (forest.apply(x) + self.roots_).T:
                np.add.at(self.value_, (leaf, y), heaviness)
        else:
            self.value_[:, forest.classes_] = np.concatenate([one.tree_.value[:, 0] for one in forest.estimators_])
        total = self.value_.sum(axis=1, keepdims=True)
        self.value_ = np.where(total > 0, self.value_, 1.0)  # no row ends within a tree
        self.value_ /= self.value_.sum(axis=1, keepdims=True)

    def _take(self, trees: list[Any]) -> None:
        """Put the nodes of the trees under each other."""
        sizes = np.array([tree.node_count for tree in trees])
        self.roots_ = np.cumsum(sizes) - sizes
        self.feature_ = np.concatenate([np.maximum(tree.feature, 0) for tree in trees]).astype(np.int64)
        self.threshold_ = np.concatenate([tree.threshold for tree in trees])
        own = np.arange(int(sizes.sum()))
        both = [np.concatenate([side + root for side, root in zip(part, self.roots_, strict=True)]) for part in (
            [tree.children_left for tree in trees], [tree.children_right for tree in trees])]  # fmt: skip
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        self.children_ = np.where(leaf[:, None], own[:, None], np.column_stack(both))

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        seen = rows.astype(np.float32)  # the precision that scikit-learn compares in
        step = max(1, BLOCK // len(self.roots_))
        return np.concatenate([self._walk(seen[first : first + step]) for first in range(0, len(seen), step)])

    def _walk(self, rows: np.ndarray) -> np.ndarray:
        """Go down all trees at once, until nobody moves; a child always stands below its parent."""
        at = np.tile(self.roots_, (len(rows), 1))
        while True:
            right = np.take_along_axis(rows, self.feature_[at], axis=1) > self.threshold_[at]
            after = self.children_[at, right.astype(np.int64)]
            if (after == at).all():
                return np.asarray(self.value_[at].mean(axis=1))
            at = after

    def _write(self, folder: Path) -> None:
        np.savez(
            folder / ARRAYS, feature=self.feature_, threshold=self.threshold_, children=self.children_,
            value=self.value_, roots=self.roots_,
        )  # fmt: skip

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.feature_, self.threshold_, self.children_, self.value_, self.roots_ = (
            arrays[name] for name in ("feature", "threshold", "children", "value", "roots")
        )
        self._check_trees()

    def _check_trees(self) -> None:
        """Refuse arrays whose trees would point outside themselves, or never end. Raises: ValueError."""
        count, own = len(self.feature_), np.arange(len(self.feature_))[:, None]
        whole = (self.feature_, self.children_, self.roots_)
        if not count or not len(self.roots_) or any(part.dtype != np.int64 for part in whole):
            raise ValueError("expected whole numbers for features, children and roots of at least one tree")
        if self.threshold_.shape != (count,) or self.children_.shape != (count, 2) or len(self.value_) != count:
            raise ValueError(f"expected arrays of {count} nodes, got {len(self.threshold_)} and {len(self.value_)}")
        if not (self.feature_.min() >= 0 and self.feature_.max() < self.n_features_in_):
            raise ValueError(f"expected features below {self.n_features_in_}, got {self.feature_.max()}")
        inside = (self.children_ >= own) & (self.children_ < count)
        ends = (self.children_ == own).sum(axis=1) != 1  # both children are the node itself, or none is
        if not (inside.all() and ends.all() and self.roots_.min() >= 0 and self.roots_.max() < count):
            raise ValueError("expected children that stand below their parents, got others")
        if (self.value_ < 0).any() or not np.allclose(self.value_.sum(axis=1), 1, atol=1e-6):
            raise ValueError("expected shares of classes that sum to 1")
