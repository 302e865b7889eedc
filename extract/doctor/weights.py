"""The encoder's weights: what the file says of itself, and whether training changed them at all."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from embeddings_store.encoder_source import EncoderSource, Training
from embeddings_store.grid import Grid
from extract.doctor.chance import BEYOND_CHANCE, beyond_chance
from extract.doctor.report import Check, Report, Status, measured
from extract.encoder.architecture import shape_text
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.foreign import describe_foreign, foreign_names
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import note_on_preset, preset_of
from extract.encoder.random_init import random_encoder
from extract.encoder_options import ONNX, EncoderChoice, Preprocessing, stands_alone
from extract.errors import CheckpointError
from extract.preset import Preset

BARELY_MOVED = 0.05
"""Relative L2 distance between context and target below which training has hardly begun.

Weights start with a standard deviation of 0.02 and norms at 1, so 5 % over all parameters of the full encoder is a mean
movement of 1e-3, a twentieth of the spread at the start: some ten AdamW steps at a rate of 1e-4, not an epoch's worth.
The fixture vjepa3d_dose has 0.2 % and 33 %.
"""

BARELY_BIASED = 1e-3
"""Largest linear bias below which training has hardly begun: biases start at exactly 0, and an AdamW step moves a
parameter by at most about the learning rate (1e-4). The fixture vjepa3d_dose has 2e-4 and 3e-2. Every family starts so
(SigLIP at 1e-6), and with norms at exactly 1 and 0, to which the same bound applies."""

UNRELATED = 1.0
"""Distance of context and target from which the target is no start that training moved away from."""

POSITIONS_START_STD = 0.02
"""Spread of the position table at its start (MODEL.md, fixture vjepa3d_dose)."""

RANDOM: tuple[Training, str] = ("random", "random weights, as asked for: a baseline to beat, not a trained encoder")

OF_ONNX: tuple[Training, str] = ("unclear", "an ONNX file does not tell whether it was trained")

OTHER = {"context": "target", "target": "context"}
FACTS = ("epoch", "step", "loss", "scheduler_last_epoch", "optimizer_steps")


def examine_checkpoint(
    path: Path,
    *,
    heads: int | None,
    image_size: Grid | None,
    which: str | None,
    interpolate: bool = False,
    family: str | None = None,
    slices: int | None = None,
) -> tuple[Report, Encoder]:
    """Load one encoder of a file and report what it is, and whether it was trained. Raises CheckpointError."""
    choice = EncoderChoice(
        checkpoint=path, encoder=family, heads=heads, image_size=image_size, interpolate=interpolate, which=which
    )
    encoder = open_encoder(**choice.arguments(), slices=slices)
    report = _describe(encoder, which) + _training_facts(encoder.facts) + _foreign_names(encoder.facts)
    distance, reason = _moved(encoder, choice)
    spread = measure_spread(encoder.module)
    moved = {"rel_l2_context_vs_target": distance}
    report += measured({**moved, **spread}, {"rel_l2_context_vs_target": reason, **dict.fromkeys(spread, NO_TENSOR)})
    return report + Report((judge_training(encoder.facts, which, distance, **_evidence(spread)),)), encoder


NO_TENSOR = "this architecture has no such tensor"


def examine_random(name: str, image_size: Grid | None, slices: int | None = None) -> tuple[Report, Encoder]:
    """Report an encoder without a checkpoint: a random one, a baseline by intention, or an ONNX file.

    Raises UsageError on an unknown name.
    """
    if name.startswith(ONNX):
        encoder = open_encoder(encoder=name, image_size=image_size, slices=slices)
        return _describe(encoder, None) + Report((Check("training", Status.WARN, OF_ONNX[1]),)), encoder
    encoder = random_encoder(name, image_size, slices)
    spread = measure_spread(encoder.module)
    warning = Check("training", Status.WARN, RANDOM[1])
    report = _describe(encoder, None) + measured(spread, dict.fromkeys(spread, NO_TENSOR)) + Report((warning,))
    return report, encoder


def examine_preset(encoder: Encoder, typed: Preprocessing) -> tuple[Report, Preset]:
    """Report how volumes would be prepared, and warn where that is not the encoder's own way. Raises UsageError."""
    preset = preset_of(encoder, typed)
    note = note_on_preset(encoder, preset.name)
    known = encoder.architecture.kind.preset is not None
    words = (
        note
        or f"preset {preset.name}, {'which is' if known else 'as typed: nobody says whether it is'} the encoder's own"
    )
    status = Status.WARN if note else Status.OK
    return Report((Check("preset", status, words),), {"preset": preset.to_dict()}), preset


def find_source(encoder: Encoder, choice: EncoderChoice) -> EncoderSource:
    """Say where an opened encoder comes from and whether it was trained, as a store keeps it."""
    epoch = encoder.facts.get("epoch")
    if choice.checkpoint is None:
        training, reason = OF_ONNX if (choice.encoder or "").startswith(ONNX) else RANDOM
    else:
        evidence = _evidence(measure_spread(encoder.module))
        training, reason = weigh_training(encoder.facts, choice.which, _moved(encoder, choice)[0], **evidence)
    known = epoch if isinstance(epoch, int | float | str) else None
    family, card = encoder.architecture.family, encoder.architecture.kind.card
    terms = (None, None) if training == "random" and choice.checkpoint is None else (card.licence, card.citation)
    return EncoderSource(encoder.source, family, encoder.weights_sha256, known, training, reason, *terms)


def _moved(encoder: Encoder, choice: EncoderChoice) -> tuple[float | None, str]:
    """Give the distance of context and target encoder, or why it is not known."""
    if encoder.architecture.kind.teacher_follows:
        return None, f"the target encoder of {encoder.architecture.family} follows the context encoder"
    which = choice.which or "context"
    try:
        beside = load_checkpoint(
            Path(choice.checkpoint or ""), family=encoder.architecture.family, heads=choice.heads,
            image_size=choice.image_size, interpolate=choice.interpolate, which=OTHER.get(which, "target"),
        )  # fmt: skip
    except CheckpointError as error:
        return None, f"it needs both encoders: {error}"
    context, target = (encoder, beside) if which != "target" else (beside, encoder)
    distance = relative_distance(context, target)
    return distance, "" if distance is not None else "the two encoders have different shapes, or the target is all zero"


def relative_distance(context: Encoder, target: Encoder) -> float | None:
    """Give |context - target| / |target| in L2 over all parameters, in float64; None where it is not defined.

    Source: fixtures/vjepa3d_dose. The trainer never updates the target, so this is what training changed.
    """
    ours, theirs = context.module.state_dict(), target.module.state_dict()
    if {name: tensor.shape for name, tensor in ours.items()} != {name: tensor.shape for name, tensor in theirs.items()}:
        return None
    moved = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in theirs)
    size = sum(float(tensor.double().square().sum()) for tensor in theirs.values())
    return float((moved / size) ** 0.5) if size else None


def measure_spread(module: nn.Module) -> dict[str, float | None]:
    """Give what training leaves in weights: the largest absolute bias of all linear layers, how far norms are from 1
    and 0 at most, the largest singular value in units of chance; and the sample standard deviation of the position
    table.
    """
    biases = [float(part.bias.abs().max()) for part in module.modules() if isinstance(part, nn.Linear) and _has(part)]
    norms = [part for part in module.modules() if isinstance(part, nn.LayerNorm)]
    moved = [max(float((part.weight - 1).abs().max()), float(part.bias.abs().max())) for part in norms]
    positions = module.state_dict().get("pos_embed")
    return {
        "max_abs_linear_bias": max(biases, default=None),
        "max_norm_moved": max(moved, default=None),
        "singular_value_over_chance": beyond_chance(module),
        "pos_embed_std": None if positions is None else float(positions.double().std()),
    }


def _evidence(spread: Mapping[str, float | None]) -> dict[str, float | None]:
    names = {"bias": "max_abs_linear_bias", "norm": "max_norm_moved", "chance": "singular_value_over_chance"}
    return {name: spread[figure] for name, figure in names.items()}


def judge_training(
    facts: Mapping[str, Any],
    which: str | None,
    distance: float | None,
    bias: float | None,
    norm: float | None = None,
    chance: float | None = None,
) -> Check:
    """Say in plain words whether this encoder was trained at all (MODEL.md, section 2)."""
    training, words = weigh_training(facts, which, distance, bias, norm, chance)
    return Check("training", Status.OK if training == "trained" else Status.WARN, words)


def weigh_training(
    facts: Mapping[str, Any],
    which: str | None,
    distance: float | None,
    bias: float | None,
    norm: float | None = None,
    chance: float | None = None,
) -> tuple[Training, str]:
    """Give the verdict on an encoder's training, and its reason.

    distance: of context and target; where it tells nothing, weights that look like independent draws are not believed.
    bias, norm, chance: of measure_spread.
    """
    figures = _figures(facts, distance, bias, norm, chance)
    if any(start is not None and start < BARELY_BIASED for start in (bias, norm)):
        return "barely", f"{_barely(facts, which)} ({figures}); {EXPECTED}"
    if which in (None, "context") and distance is not None and distance < BARELY_MOVED:
        return "unclear", f"{NEAR_TARGET} ({figures}); {EXPECTED}"
    if (distance is None or distance > UNRELATED) and chance is not None and chance < BEYOND_CHANCE:
        return "unclear", f"{LIKE_DRAWS} ({figures}); {EXPECTED}"
    if distance is None and bias is None and chance is None:
        return "unclear", f"nothing in the file tells whether it was trained ({figures})"
    return "trained", f"the weights have moved away from a random start ({figures})"


def _figures(
    facts: Mapping[str, Any], distance: float | None, bias: float | None, norm: float | None, chance: float | None
) -> str:
    said = [f"distance context-target {distance:.2%}" if distance is not None else "distance context-target not known"]
    said += [f"largest linear bias {bias:.1e}" if bias is not None else "no linear biases"]
    said += [f"norms moved {norm:.1e}"] if norm is not None else []
    said += [f"largest singular value {chance:.2f} of chance"] if chance is not None else []
    said += [f"{name.replace('_', ' ')} {facts[name]}" for name in FACTS if name in facts]
    return ", ".join(said)


EXPECTED = (
    f"a trained encoder has biases above {BARELY_BIASED:g} (they start at 0) and is more than {BARELY_MOVED:.0%} away "
    "from its start: use a later checkpoint, and compare with the random twin before you trust any result"
)
LIKE_DRAWS = (
    "the weights look like independent draws, as before training: no direction in them is stronger than chance gives "
    f"(below {BEYOND_CHANCE:g})"
)
NEAR_TARGET = (
    "context and target encoder are nearly equal: either training has hardly begun, or the target follows the context, "
    "and then their distance says nothing"
)


def _barely(facts: Mapping[str, Any], which: str | None) -> str:
    words = f"this {which or 'context'} encoder is almost its random start: it was trained barely, or not at all"
    if facts.get("epoch") == 0 and facts.get("loss") == 0:
        words += "; a loss of exactly 0 at epoch 0 is an empty validation mask, which stays 'best' for ever"
    return words


def _describe(encoder: Encoder, which: str | None) -> Report:
    architecture = encoder.architecture
    parameters = sum(parameter.numel() for parameter in encoder.module.parameters())
    words = (
        f"{encoder.source}{f' ({which} encoder)' if which else ''}: {architecture.family}, "
        f"{architecture.depth} blocks, width {architecture.width}, {architecture.heads} heads, "
        f"image {shape_text(architecture.image_size)}, {parameters:,} parameters, weights {encoder.weights_sha256[:16]}"
    )
    figures = {
        "family": architecture.family,
        "architecture": asdict(architecture),
        "parameters": parameters,
        "weights_sha256": encoder.weights_sha256,
    }
    return Report((Check("encoder", Status.OK, words),), figures) + _terms(encoder)


def _terms(encoder: Encoder) -> Report:
    """Say what a published encoder may be used for, and what to cite."""
    card = encoder.architecture.kind.card
    if card.licence is None or stands_alone(encoder.source):
        return Report()  # random weights are nobody's
    status = Status.OK if card.commercial else Status.WARN
    figures = {"licence": card.licence, "citation": card.citation}
    return Report((Check("licence", status, f"{card.describe_terms()}; to cite: {card.citation}"),), figures)


def _training_facts(facts: Mapping[str, Any]) -> Report:
    return measured({name: facts.get(name) for name in FACTS}, dict.fromkeys(FACTS, "the file does not say"))


def _foreign_names(facts: Mapping[str, Any]) -> Report:
    warning = describe_foreign(facts)
    if warning is None:
        return Report()
    return Report((Check("foreign code", Status.WARN, warning),), {"foreign_globals": foreign_names(facts)})


def _has(part: nn.Linear) -> bool:
    return part.bias is not None
