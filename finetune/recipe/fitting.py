"""What a step of training takes, by counting, and the recipe that fits a device.

Counted is what autograd keeps for the backward pass: for each token of a block that is trained the inputs of both
norms, what comes out of them, query, key, value and their mix (8 widths), and both sides of the MLP's activation. Where
it computes in bf16, the inputs of the norms stay float32. Tests compare this with what autograd does keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from embeddings_store.errors import UsageError
from extract.device.backend import Backend
from extract.encoder.architecture import Architecture
from finetune.recipe.config import DecayedStage, EncoderStage, FinetuneConfig, LastStage, StageConfig

USABLE_SHARE = 0.92
"""Of a device's memory: its driver has a part, and freed blocks do not fit one another without gaps."""

OWN_BYTES = 1_500_000_000
"""Taken whatever the batch: CUDA's context, workspaces of matrix products, and augmentation on the device."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """volume_bytes: for each volume a forward. fixed_bytes: besides. tflop: of a volume, there and back."""

    volume_bytes: int
    fixed_bytes: int
    tflop: float

    def bytes_of(self, volumes: int) -> int:
        """Give the memory of a step with so many volumes a forward."""
        return self.fixed_bytes + volumes * self.volume_bytes


def count_step(architecture: Architecture, stage: StageConfig, *, bf16: bool, recompute: bool) -> StepCost:
    """Count memory and arithmetic of a step of a stage."""
    blocks = _blocks_trained(architecture, stage)
    kept, each = _block_bytes(architecture, bf16=bf16), _token_bytes(architecture)
    held = (each * blocks if recompute else kept * blocks) + kept + 3 * each
    weights, trained = architecture.parameter_count, _weights_trained(architecture, stage)
    fixed = 4 * weights + 12 * trained + (2 * weights if bf16 else 0) + OWN_BYTES
    volume = 4 * prod(architecture.image_size) * architecture.kind.channels
    share = blocks / architecture.depth
    passes = 1 + (3 if recompute else 2) * share
    return StepCost(held + 2 * volume, fixed, passes * architecture.flop_per_volume / 1e12)


def fit_recipe(
    config: FinetuneConfig, stages: Sequence[str], architecture: Architecture, backend: Backend, processes: int
) -> FinetuneConfig:
    """Decide what a recipe leaves open (null) by the device's memory and kind; every stage of a run has the same.

    The gradient is the same however many volumes a forward takes, so that the largest number that divides a device's
    share is taken (a process may have several: the chips of a slice); activations are computed again only where one
    volume a forward does not fit without.
    Raises UsageError where nothing fits.
    """
    precision = config.precision or ("bf16" if backend.prefers_bf16 else "fp32")
    memory, chips = backend.memory_bytes(), backend.chips
    share = -(-config.batch_size // (processes * chips))
    asked = {"precision": precision, "recompute": bool(config.recompute)}
    deep = [config.stages.find(name) for name in stages if isinstance(config.stages.find(name), EncoderStage)]
    if memory is None or not deep:
        return config.model_copy(update=asked)
    usable = int(USABLE_SHARE * memory)
    for recompute in (False, True) if config.recompute is None else (config.recompute,):
        costs = [count_step(architecture, one, bf16=precision == "bf16", recompute=recompute) for one in deep]
        fitting = [
            size for size in _sizes(config, share, chips) if max(cost.bytes_of(size) for cost in costs) <= usable
        ]
        if fitting:
            micro = fitting[0] * chips if fitting[0] < share else config.micro_batch_size
            return config.model_copy(update=asked | {"recompute": recompute, "micro_batch_size": micro})
    least = max(count_step(architecture, one, bf16=precision == "bf16", recompute=True).bytes_of(1) for one in deep)
    raise UsageError(
        f"stages {','.join(stages)}: expected a device with {least / USABLE_SHARE / 1e9:.1f} GB or more (by counting, "
        f"one volume a forward, {precision}, activations computed again), got {memory / 1e9:.1f} GB; take --set "
        "precision=bf16, fewer stages.last.blocks, --stages head,lora, or another device"
    )


def describe_fit(
    config: FinetuneConfig,
    stages: Sequence[str],
    architecture: Architecture,
    memory: int | None,
    processes: int,
    chips: int = 1,
) -> str:
    """Say what was decided, and what it is counted to take, in a line."""
    share = -(-config.batch_size // (processes * chips))
    at_once = _sizes(config, share, chips)[0]
    on = f" on each of {chips} chips" if chips > 1 else ""
    words = [f"{config.precision}, {at_once} of {share} volumes a forward{on}"]
    words += ["activations computed again"] if config.recompute else []
    for name in stages:
        stage = config.stages.find(name)
        if isinstance(stage, EncoderStage):
            cost = count_step(architecture, stage, bf16=config.precision == "bf16", recompute=bool(config.recompute))
            needed = f"{cost.bytes_of(at_once) / 1e9:.1f} GB"
            of = f" of {memory / 1e9:.0f}" if memory is not None else ""
            words.append(f"stage {name} {needed}{of} and {cost.tflop:.1f} TFLOP a volume")
    return f"recipe: {'; '.join(words)} (by counting)"


def _sizes(config: FinetuneConfig, share: int, chips: int) -> list[int]:
    """Give the volumes that a forward of one device may take: as asked, or what divides its share, largest first."""
    if config.micro_batch_size is not None:
        return [min(-(-config.micro_batch_size // chips), share)]
    return [size for size in range(share, 0, -1) if share % size == 0]


def _blocks_trained(architecture: Architecture, stage: StageConfig) -> int:
    """Give the blocks of which activations are kept: LoRA changes few weights, and in every block."""
    if isinstance(stage, LastStage):
        return min(stage.blocks, architecture.depth)
    return architecture.depth if isinstance(stage, EncoderStage) else 0


def _weights_trained(architecture: Architecture, stage: StageConfig) -> int:
    share = _blocks_trained(architecture, stage) / architecture.depth if isinstance(stage, DecayedStage) else 0.02
    return int(share * architecture.parameter_count)


def _tokens(architecture: Architecture) -> int:
    passes = architecture.image_size[0] if architecture.kind.slices else 1
    return passes * (prod(architecture.pass_grid) + architecture.prefix)


def _token_bytes(architecture: Architecture) -> int:
    """Give the size of all tokens in float32: what goes from block to block."""
    return 4 * architecture.width * _tokens(architecture)


def _block_bytes(architecture: Architecture, *, bf16: bool) -> int:
    """Give what one block keeps of a volume."""
    width, hidden = architecture.width, architecture.mlp_width
    each = 20 * width + 4 * hidden if bf16 else 32 * width + 8 * hidden
    return each * _tokens(architecture)
