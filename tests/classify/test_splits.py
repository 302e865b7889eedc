"""No participant on two sides, in any split or fold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.errors import LeakError


def test_a_leaked_participant_is_refused_by_name() -> None:
    with pytest.raises(LeakError, match=r"1002 \(train and val\)"):
        check_no_leak({"train": ["1001", "1002"], "val": ["1002", "1003"], "test": []})


def test_repeats_on_one_side_are_no_leak() -> None:
    check_no_leak({"train": ["1001", "1001"], "val": ["1002"]})


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    folds=st.integers(2, 6),
    seed=st.integers(0, 100),
)
def test_folds_keep_persons_together_and_classes_spread(labels: list[int], folds: int, seed: int) -> None:
    person_label = np.array(labels, dtype=np.int64)
    person = np.repeat([f"{number:04d}" for number in range(len(labels))], 3)
    label = np.repeat(person_label, 3)
    fold = grouped_folds(person, label, folds=folds, seed=seed)
    check_no_leak({str(number): person[fold == number].tolist() for number in range(folds)})
    for value in set(labels):
        sizes = np.bincount(fold[::3][person_label == value], minlength=folds)
        assert sizes.max() - sizes.min() <= 1
    shuffled = np.random.default_rng(seed).permutation(len(person))
    assert (grouped_folds(person[shuffled], label[shuffled], folds=folds, seed=seed) == fold[shuffled]).all()
