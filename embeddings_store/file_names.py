"""One way from a name that data gave to the name of a file."""

from hashlib import sha256
from urllib.parse import quote

LONGEST = 80
DIGEST_DIGITS = 16


def file_name(name: str) -> str:
    """Return a name without slashes, spaces or control characters, the same for the same text and for no other.

    Letters, digits and "-._~" stay; all else becomes "=" and the hex digits of its UTF-8. No name begins with a dot,
    and what would be longer than 80 characters ends in a digest.

    Example: file_name("../x") == "=..=2Fx".
    """
    plain = quote(name, safe="", errors="surrogatepass").replace("%", "=")
    if plain.startswith("."):
        plain = f"={plain}"
    if len(plain) <= LONGEST:
        return plain
    digest = sha256(name.encode(errors="surrogatepass")).hexdigest()[:DIGEST_DIGITS]
    return f"{plain[: LONGEST - DIGEST_DIGITS - 1]}-{digest}"
