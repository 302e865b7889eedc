"""Keys that may be shown: without the UIDs in them, which point to people."""

import re

_UID = re.compile(r"\d+(?:\.\d+){2,}")


def shortened(key: str) -> str:
    """Return a key with each UID cut."""
    return _UID.sub("<UID>", key)
