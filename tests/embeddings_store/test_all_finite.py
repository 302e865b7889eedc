"""What is finite: as NumPy says, wherever in a long array the exception lies."""

import numpy as np
import pytest

from embeddings_store.row_checks import SCAN_BYTES, all_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_one_number_that_is_not_finite_is_found(dtype: type, bad: float) -> None:
    values = np.random.default_rng(0).standard_normal((3, SCAN_BYTES)).astype(dtype)
    values[0, :4] = np.finfo(dtype).max, np.finfo(dtype).min, 0, -0.0
    assert all_finite(values)
    for place in (0, SCAN_BYTES - 1, 3 * SCAN_BYTES - 1):
        changed = values.copy()
        changed.flat[place] = bad
        assert not all_finite(changed)
        assert not all_finite(changed[:, ::-1]), "not contiguous"
