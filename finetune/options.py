"""What a run was asked to do, and the name of everything that decides its weights."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.provenance import package_versions
from extract.encoder.encoder import Encoder
from extract.options import EncoderChoice, parse_image_size
from extract.preset import PRESETS
from finetune.config import STAGES, FinetuneConfig
from finetune.recipe import load_config
from finetune.stages import parse_stages

PRESET = PRESETS["pretrain"]


@dataclass(frozen=True)
class FinetuneOptions:
    """What the command line asked for.

    bucket: None where a store has everything that the stage of the head needs. store: embeddings of the starting
    encoder. cache_dir None: preprocessed volumes are kept until the run is finished. measurements,
    pretrain_participants, resplit, allow_near_copies: as for a probe; the first three change no weight.
    """

    choice: EncoderChoice
    participants: Path
    config: FinetuneConfig
    bucket: str | None = None
    prefix: str = ""
    endpoint_url: str | None = None
    store: str | None = None
    task: str = "four-class"
    stages: tuple[str, ...] = STAGES[:3]
    device: str = "auto"
    limit: int | None = None
    seed: int = 0
    replicates: int = 2000
    runs: Path = Path("runs")
    cache_dir: Path | None = None
    command: tuple[str, ...] = ()
    measurements: Path | None = None
    pretrain_participants: Path | None = None
    resplit: str | None = None
    allow_near_copies: Path | None = None

    @property
    def needs_volumes(self) -> bool:
        """Say whether something besides stored vectors and tokens is needed."""
        return self.store is None or self.stages != ("head",) or self.config.stages.head.augment > 0

    def require_source(self) -> None:
        """Refuse a run that has nothing to learn from. Raises UsageError."""
        if self.bucket is None and self.needs_volumes:
            raise UsageError(
                "--bucket is missing: say where the volumes are (only --stages head with --store, and without "
                "augmentation, needs none)"
            )
        if self.limit is not None and not self.needs_volumes:
            raise UsageError("--limit counts volumes of the bucket; with --store alone it would do nothing")

    def key(self, encoder: Encoder) -> str:
        """Name everything that decides the weights, as 16 hex digits: a resumed run must agree in all of it."""
        recipe = self.config.model_dump() | {"save_every_steps": 0, "workers": 0, "parallel": "ddp"}
        parts = (
            recipe, self.stages, self.task, self.seed, self.bucket, self.prefix, self.endpoint_url, self.store,
            self.limit, encoder.weights_sha256, encoder.architecture.image_size,
            sha256(self.participants.read_bytes()).hexdigest(),
            *([self.allow_near_copies.read_text()] if self.allow_near_copies else []),
        )  # fmt: skip
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def parse_options(
    *,
    bucket: str | None,
    participants: Path | None,
    prefix: str,
    endpoint_url: str | None,
    store: str | None,
    checkpoint: Path | None,
    encoder: str | None,
    heads: int | None,
    interpolate: bool,
    image_size: str | None,
    task: str,
    stages: str,
    config: str | None,
    change: Sequence[str] | None,
    device: str,
    limit: int | None,
    seed: int,
    runs: Path,
    cache_dir: Path | None,
    epochs: int | None = None,
    batch_size: int | None = None,
    parallel: str | None = None,
    replicates: int = 2000,
    measurements: Path | None = None,
    pretrain_participants: Path | None = None,
    resplit: str | None = None,
    allow_near_copies: Path | None = None,
) -> FinetuneOptions:
    """Read the words of the command line. Raises UsageError, naming the option."""
    if participants is None:
        raise UsageError("--participants is missing: give the dataset's participants.tsv; see --help")
    chosen = parse_stages(stages)
    size = parse_image_size(image_size) if image_size else None
    return FinetuneOptions(
        choice=EncoderChoice(checkpoint, encoder, heads, interpolate, size),
        bucket=bucket,
        participants=participants,
        config=load_config(
            config, changes=change or (), stages=chosen, epochs=epochs, batch_size=batch_size, parallel=parallel
        ),
        prefix=prefix,
        endpoint_url=endpoint_url,
        store=store,
        task=task,
        stages=chosen,
        device=device,
        limit=limit,
        seed=seed,
        replicates=replicates,
        runs=runs,
        cache_dir=cache_dir,
        command=("finetune", *sys.argv[1:]),
        measurements=measurements,
        pretrain_participants=pretrain_participants,
        resplit=resplit,
        allow_near_copies=allow_near_copies,
    )


def image_recipe(image_size: tuple[int, int, int]) -> str:
    """Name everything besides the object that decides the voxels of a kept volume."""
    versions = package_versions(("octprobe",))
    return json.dumps([PRESET.to_dict(), image_size, versions.get("octprobe")], sort_keys=True)
