"""One check of every address and path that is typed or opened: it says where, and never who asks."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote

from embeddings_store.errors import OctProbeError

_PLACE = re.compile(r"([a-z][a-z0-9+.-]*):(/+)([^/?#\s]*)", re.IGNORECASE)
_BARE = re.compile(r"(?:[^/\s:@=]+=)?(?://)?[^/\s:@=]+:(?!/)[^\s@]+@[^\s/@]")
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?")
_QUERY = re.compile(
    r"[?&;#](?:[\w.-]*(?:passw(?:or)?d|pwd|secret|token|credential|signature|api[_-]?key|key[_-]?id)|sig|auth)=[^&;\s]",
    re.IGNORECASE,
)
_LOCAL = ("file", "sqlite")  # their third slash begins a path, which may hold an @
_NO_PLACE = ("onnx:", "random:")  # an encoder's file, whose name may hold an @
_LAYERS = 3  # of percent signs: nobody quotes more often by accident


def holds_credentials(word: str, *, bare: bool = True) -> bool:
    """Tell whether a word holds an address with a user's name, a password or a token, wherever it stands in it.

    Also of what a Path leaves of an address ("s3:/key:secret@bucket"), of NAME=ADDRESS, of a query, and of quoted
    signs. bare: also without a scheme ("user:password@host").
    """
    for _ in range(_LAYERS):
        word = word.replace("\\", "/")
        if _QUERY.search(word) or (bare and not word.startswith(_NO_PLACE) and _BARE.match(word)):
            return True
        for scheme, slashes, host in _PLACE.findall(word):
            is_path = scheme.lower().partition("+")[0] in _LOCAL and len(slashes) != len("//")
            if not is_path and ("@" in unquote(host) or not _PORT.fullmatch(unquote(host))):
                return True
        word = unquote(word)
    return False


def require_no_credentials(address: str, what: str, refusal: type[OctProbeError]) -> str:
    """Return the address; refuse one with a user's name or password, which would end up in logs and records.

    what: how the user named it, such as --bucket; the address itself is not quoted. refusal: the error to raise.
    """
    if "@" in unquote(address).partition("/")[0] or holds_credentials(address):
        raise _refused(what, refusal)
    return address


def require_plain_word(word: object, what: str, refusal: type[OctProbeError]) -> None:
    """Refuse what an option was given where it is a text or path with credentials; as require_no_credentials."""
    if isinstance(word, str | PurePath) and holds_credentials(str(word)):
        raise _refused(what, refusal)


def require_plain_line(words: Sequence[str], refusal: type[OctProbeError]) -> None:
    """Refuse a command line with credentials before any message can quote it; as require_no_credentials."""
    for before, word in zip(("", *words), words, strict=False):
        if holds_credentials(word, bare=False):
            option, equals, _ = word.partition("=")
            named = option if equals and option.startswith("-") else before
            raise _refused(named if named.startswith("-") and not holds_credentials(named) else "an argument", refusal)


def _refused(what: str, refusal: type[OctProbeError]) -> OctProbeError:
    return refusal(
        f"{what}: expected a plain URL, got one with a user name or password before an @, or a token; credentials "
        "belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, MLFLOW_TRACKING_USERNAME ...) or an AWS "
        "profile"
    )
