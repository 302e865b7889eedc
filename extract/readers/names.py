"""The eye in a file's name, for kinds of file that say nothing else of themselves."""

import re
from typing import Final

from embeddings_store.schema import Eye

WORD: Final = re.compile(r"(?<![A-Za-z])(OD|OS)(?![A-Za-z])")
EYES: Final = {"OD": Eye.RIGHT, "OS": Eye.LEFT}


def eye_in_name(name: str) -> Eye:
    """Give the eye that a name tells as OD or OS; unknown where it tells none, or both."""
    found = set(WORD.findall(name.rpartition("/")[2]))
    return EYES[found.pop()] if len(found) == 1 else Eye.UNKNOWN
