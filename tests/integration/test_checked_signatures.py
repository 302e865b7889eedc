"""Tests check the types of all calls, and that axes of one name are of one length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from classify.features.standardise import Standardiser
from embeddings_store.plain_text import visible
from extract.bucket.source import ObjectInfo

NUMBER: Any = 3
ROWS = np.zeros((4, 6), np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda: visible(NUMBER),
        lambda: ObjectInfo(NUMBER, 1, ""),
        lambda: Standardiser.fit(ROWS[0], np.array(["a"] * 6)),
        lambda: Standardiser.fit(ROWS.astype(np.int64), np.array(["a"] * 4)),
        lambda: Standardiser.fit(ROWS, np.array(["a"] * 4)).transform(ROWS, np.array(["a"] * 3)),
    ],
    ids=["type", "field", "dimensions", "dtype", "one name, two lengths"],
)
def test_a_call_that_its_signature_excludes_fails(call: Callable[[], Any]) -> None:
    with pytest.raises((BeartypeCallHintViolation, TypeCheckError)):
        call()
