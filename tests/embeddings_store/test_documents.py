"""JSON from outside is read as it is, or refused with ValueError."""

import pytest

from embeddings_store.documents import parse_json, parse_object


@pytest.mark.parametrize(
    "body",
    ['{"a": 1e999}', "[-1e400]", '{"a": [NaN]}', "Infinity", "-Infinity", "[" * 100_000, "9" * 5_000, "{", ""],
)
def test_what_is_no_finite_document_is_refused(body: str) -> None:
    for given in (body, body.encode(), memoryview(body.encode())):
        with pytest.raises(ValueError, match=r"^.{1,200}$"):
            parse_json(given)


def test_what_is_one_is_read() -> None:
    assert parse_object(b'{"a": [1, -2.5e-3, 1e308, "1e999", null]}') == {"a": [1, -0.0025, 1e308, "1e999", None]}
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        parse_object("[]")
