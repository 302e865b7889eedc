"""Whether an encoder sees volumes preprocessed as those that it was trained on."""

from dataclasses import replace

from embeddings_store.errors import UsageError
from extract.encoder.encoder import Encoder
from extract.encoder_options import Preprocessing
from extract.preset import Preset, require_plain


def preset_of(encoder: Encoder, typed: Preprocessing, *, views: int = 0, several: bool = False) -> Preset:
    """Give the preset for an encoder: its family's own, unless another one was typed.

    views: augmented views of each volume, which have the intensities of the preset "pretrain". several: other encoders
    are fed by the same run, for which --slices may be meant.
    Raises UsageError where the preset gives channels that the encoder does not take, or none of those views.
    """
    kind = encoder.architecture.kind
    if kind.preset is None and typed.preset is None:
        raise UsageError(
            f"{encoder.source}: --preset: expected how its input is prepared, a name or a .yaml file, for an ONNX file "
            "does not say"
        )
    if several and not kind.slices:
        typed = replace(typed, slices=None)
    preset = typed.prepared(kind.preset, encoder.architecture.image_size)
    require_channels(encoder, preset.channels, f"--preset {preset.name}")
    if views:
        require_plain(views, preset.name)
    return preset


def require_channels(encoder: Encoder, channels: int, source: str) -> None:
    """Refuse preprocessed volumes of three channels for an encoder of one; one is good for all. Raises UsageError."""
    takes = encoder.architecture.kind.channels
    if channels not in (1, takes):
        raise UsageError(f"{source}: expected {takes} channel of {encoder.architecture.family}, got {channels}")


def require_own_preset(encoder: Encoder, only: str, instead: str) -> None:
    """Refuse an encoder that was not trained with the one preset at hand. instead: what to do. Raises UsageError."""
    note = note_on_preset(encoder, only)
    if encoder.architecture.kind.preset is None:
        note = f"{encoder.source}: an ONNX file does not say how its input is prepared, and its weights cannot learn"
    if note:
        raise UsageError(f"{note}; {instead}")


def note_on_preset(encoder: Encoder, preset: str) -> str | None:
    """Say that another preset than the encoder's own is in use; None where it is its own."""
    own = encoder.architecture.kind.preset
    if own in (preset, None):
        return None
    return f"{encoder.source}: preset {preset} is not the encoder's own: {encoder.architecture.family} goes with {own}"
