"""JSON that came from outside: read to the end, or refused with ValueError, whatever it holds."""

import json
import math
from typing import Any

MOST_BYTES = 256 << 20


def parse_json(body: bytes | bytearray | memoryview | str) -> Any:
    """Return what a JSON document says.

    Raises: ValueError where it is none, is nested too deeply, holds numbers of thousands of digits, NaN, infinity or
    1e999, or is larger than 256 MiB.
    """
    text = bytes(body) if isinstance(body, memoryview) else body
    if len(text) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES:,} bytes, got {len(text):,}")
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_object(body: bytes | bytearray | memoryview | str) -> dict[str, Any]:
    """Return a JSON object. Raises: ValueError as parse_json does, and for any other JSON."""
    found = parse_json(body)
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004 - of a document, for which one error is enough
            f"expected a JSON object, got {type(found).__name__}"
        )
    return found


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(f"expected finite numbers, got {digits[:20]}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"expected finite numbers, got {constant}")
