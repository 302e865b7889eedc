"""SOP classes that a user names because they are meant."""

import re
from collections.abc import Iterable

from pydicom._uid_dict import UID_dictionary

from embeddings_store.errors import UsageError

UID_PATTERN = re.compile(r"\d+(\.\d+)+")


def parse_classes(words: Iterable[str]) -> frozenset[str]:
    """Find SOP classes by UID, name or keyword. Raises: UsageError."""
    return frozenset(_find_class(word.strip()) for word in words)


def _find_class(word: str) -> str:
    if UID_PATTERN.fullmatch(word):
        return word
    for uid, (name, kind, _, _, keyword) in UID_dictionary.items():
        if kind == "SOP Class" and word.lower() in {name.lower(), keyword.lower()}:
            return uid
    raise UsageError(f"--allow-sop-class: expected a UID, or DICOM's name of a SOP class, got {word!r}")
