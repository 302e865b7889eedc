"""The recipe: every number of a fine-tuning run, as strict models. recipe.py reads it from files and words."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from extract.augment.draws import Changes


def _read_number(raw: object) -> object:
    """Read 1e-4, which YAML 1.1 takes for a word."""
    try:
        return float(raw) if isinstance(raw, str) else raw
    except ValueError:
        return raw


Number = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0, le=1e30)]  # beyond it float32 overflows before a loss can
Amount = Annotated[Number, Field(ge=0, le=1e30)]
Share = Annotated[Number, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Unknown keys and values of another type are errors; nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StageConfig(Strict):
    """What every stage has. learning_rate is the head's highest, reached after warmup_fraction of the steps, then a
    cosine to 0.

    patience: epochs without a better one on val before the stage ends; null: all epochs. augment: strength from 0
    (volumes as they are) to 1 (as far as ``augment`` of the recipe says).
    """

    epochs: int = Field(ge=1)
    learning_rate: Rate
    weight_decay: Amount
    warmup_fraction: Annotated[Number, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=1)] | None
    augment: Share


class EncoderStage(StageConfig):
    """A stage that changes the encoder, too. drop_path: of the deepest block; it grows linearly from the first."""

    encoder_learning_rate: Rate
    drop_path: Annotated[Number, Field(ge=0, lt=1)]


class DecayedStage(EncoderStage):
    """layer_decay: each block learns this much slower than the one above it."""

    layer_decay: Annotated[Number, Field(gt=0, le=1)]


class LastStage(DecayedStage):
    """The stage of the last blocks of the encoder."""

    blocks: int = Field(ge=1)


class LoraStage(EncoderStage):
    """Low-rank changes of the attention's linear layers instead of the weights themselves; scaled by alpha / rank."""

    rank: int = Field(ge=1)
    alpha: Rate


class StagesConfig(Strict):
    """The settings of each stage; --stages says which are run."""

    head: StageConfig = StageConfig(
        epochs=30, learning_rate=1e-2, weight_decay=1e-2, warmup_fraction=0.1, patience=10, augment=0.0
    )
    last: LastStage = LastStage(
        epochs=20, learning_rate=1e-3, weight_decay=5e-2, warmup_fraction=0.1, patience=10, augment=0.5,
        encoder_learning_rate=3e-4, drop_path=0.1, layer_decay=0.75, blocks=2,
    )  # fmt: skip
    all: DecayedStage = DecayedStage(
        epochs=15, learning_rate=1e-3, weight_decay=5e-2, warmup_fraction=0.1, patience=5, augment=0.5,
        encoder_learning_rate=3e-4, drop_path=0.1, layer_decay=0.75,
    )  # fmt: skip
    lora: LoraStage = LoraStage(
        epochs=10, learning_rate=1e-3, weight_decay=0.0, warmup_fraction=0.1, patience=3, augment=0.5,
        encoder_learning_rate=3e-4, drop_path=0.0, rank=8, alpha=16.0,
    )  # fmt: skip

    def find(self, name: str) -> StageConfig:
        """Give the settings of a stage."""
        stages: dict[str, StageConfig] = {"head": self.head, "last": self.last, "all": self.all, "lora": self.lora}
        return stages[name]


class LinearConfig(Strict):
    """One linear layer over mean-pooled tokens."""

    kind: Literal["linear"] = "linear"


class MlpConfig(Strict):
    """Two hidden layers, width and width / 2, with batch normalisation and dropout."""

    kind: Literal["mlp"]
    width: int = Field(default=512, ge=2)
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.5


class OrdinalConfig(Strict):
    """One score and ordered thresholds: classes are steps of one scale."""

    kind: Literal["ordinal"]


class AttentiveConfig(Strict):
    """A learned query pools the tokens, then one linear layer; it begins as the mean."""

    kind: Literal["attentive"]
    heads: int = Field(default=4, ge=1)


HeadConfig = Annotated[LinearConfig | MlpConfig | OrdinalConfig | AttentiveConfig, Field(discriminator="kind")]


class AugmentConfig(Strict):
    """How far volumes are changed at strength 1, as extract.augment.draws.Changes says; 0 leaves a change out.

    mixup, cutmix: parameter of the Beta distribution of the shares; mixing: probability that a volume is mixed at all.
    """

    rotation_degrees: Annotated[Number, Field(ge=0, le=30)] = 5.0
    scaling: Annotated[Number, Field(ge=0, le=0.5)] = 0.05
    shift: Annotated[Number, Field(ge=0, le=0.5)] = 0.03
    contrast: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    noise: Amount = 0.1
    mirror: Share = 0.5
    axial_shift: Annotated[Number, Field(ge=0, le=0.5)] = 0.05
    tilt: Annotated[Number, Field(ge=0, le=0.5)] = 0.05
    speckle: Annotated[Number, Field(ge=0, le=1)] = 0.2
    frame_dropout: Annotated[Number, Field(ge=0, le=0.5)] = 0.05
    shadows: int = Field(default=3, ge=0)
    mixup: Amount = 0.0
    cutmix: Amount = 0.0
    mixing: Share = 0.5

    @property
    def changes(self) -> "Changes":
        """What is done to one volume, without mixing."""
        from extract.augment.draws import Changes

        return Changes(**self.model_dump(exclude={"mixup", "cutmix", "mixing"}))


class FinetuneConfig(Strict):
    """The whole recipe.

    batch_size: volumes a step, over all processes. micro_batch_size: volumes a forward of one process; null: as many of
    its share as fit the device; smaller ones are summed, with equal results. gradient_clip: largest norm of the
    gradient. precision: of the encoder's arithmetic; weights stay float32; null: bf16 where the device is fast in it.
    recompute: keep no activations inside a block; null: only where nothing else fits. See recipe.fitting.
    first_head: a linear or attentive head begins as the probe of the frozen encoder's vectors, or as it is drawn.
    sampling: participants equally often, or volumes once an epoch. class_weights: classes weigh the same in the loss.
    cache: how preprocessed volumes are kept on disk. workers: processes that load volumes; 0: none beside this one;
    null: as many as this process has cores, and none where the CPU itself trains.
    parallel: how processes of torchrun share the training: each with the whole model (ddp), or with a part of what is
    trained, its gradients and its moments (fsdp).
    save_every_steps: how often the training state is saved within an epoch; it always is after one.
    """

    stages: StagesConfig = StagesConfig()
    head: HeadConfig = LinearConfig()
    augment: AugmentConfig = AugmentConfig()
    batch_size: int = Field(default=8, ge=1)
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    gradient_clip: Rate = 1.0
    precision: Literal["fp32", "bf16"] | None = None
    recompute: bool | None = None
    sampling: Literal["participants", "volumes"] = "participants"
    class_weights: bool = True
    cache: Literal["uint8", "float32"] = "uint8"
    workers: Annotated[int, Field(ge=0)] | None = None
    parallel: Literal["ddp", "fsdp"] = "ddp"
    save_every_steps: int = Field(default=200, ge=1)
    first_head: Literal["probe", "drawn"] = "probe"

    @model_validator(mode="after")
    def _check_sizes(self) -> "FinetuneConfig":
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        return self
