"""Whether an encoder sees volumes preprocessed as those that it was trained on."""

from embeddings_store.errors import UsageError
from extract.encoder.encoder import Encoder
from extract.preset import PRESETS

TYPE_IT = (
    "type --preset pretrain (or a .yaml file) to take another one on purpose, and compare with an encoder trained "
    "on OCT"
)


def require_own_preset(encoder: Encoder, typed: str | None, instead: str = TYPE_IT) -> None:
    """Refuse to preprocess by default where the default is not what the encoder was trained with; what is typed goes.

    typed: the preset that the user named; None: none. instead: what to do. Raises UsageError.
    """
    own = _own(encoder)
    if typed is None and own is None:
        raise UsageError(
            f"{encoder.source}: --preset: expected the preprocessing that the encoder was trained with, but none is "
            f"named, and {_DIFFERS.format(family=encoder.architecture.family)}; {instead}"
        )


def note_on_preset(encoder: Encoder, preset: str) -> str | None:
    """Say that another preset than the encoder's own is in use; None where it is its own."""
    own = _own(encoder)
    if own == preset:
        return None
    told = _DIFFERS.format(family=encoder.architecture.family) if own is None else f"it was trained with {own}"
    return f"{encoder.source}: preset {preset} is not the encoder's own: {told}"


def _own(encoder: Encoder) -> str | None:
    own = encoder.architecture.kind.preset
    return own if own in PRESETS else None


_DIFFERS = "{family} was trained on colour video normalised by channel, which no preset here does"
