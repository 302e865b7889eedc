"""SOP classes that a user names because they are meant."""

import re
from collections.abc import Iterable

import pydicom.uid

from embeddings_store.errors import UsageError

UID_PATTERN = re.compile(r"\d+(\.\d+)+")


def parse_classes(words: Iterable[str]) -> frozenset[str]:
    """Find SOP classes by UID, name or keyword. Raises: UsageError."""
    return frozenset(_find_class(word.strip()) for word in words)


def _find_class(word: str) -> str:
    if UID_PATTERN.fullmatch(word):
        return word
    for uid in vars(pydicom.uid).values():
        is_class = isinstance(uid, pydicom.uid.UID) and uid.type == "SOP Class"
        if is_class and word.lower() in {uid.name.lower(), uid.keyword.lower()}:
            return str(uid)
    raise UsageError(f"--allow-sop-class: expected a UID, or DICOM's name of a SOP class, got {word!r}")
