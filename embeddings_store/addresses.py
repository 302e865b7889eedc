"""One check of every address that is opened: it says where, and never who asks."""

from urllib.parse import unquote, urlsplit

from embeddings_store.errors import OctProbeError


def require_no_credentials(address: str, what: str, refusal: type[OctProbeError]) -> str:
    """Return the address; refuse one with a user's name or password, which would end up in logs and records.

    what: how the user named it, such as --bucket; the address itself is not quoted. refusal: the error to raise.
    """
    place = address if "://" in address else f"//{address}"
    try:
        host = unquote(urlsplit(place).netloc)
    except ValueError:
        host = place  # no URL at all: say nothing of it here that could hold a password
    if "@" in host:
        raise refusal(
            f"{what}: expected a plain URL, got one with a user name or password before an @; credentials belong in "
            "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, MLFLOW_TRACKING_USERNAME ...) or an AWS profile"
        )
    return address
