"""What the doctor was asked to examine, parsed once at the door."""

from dataclasses import dataclass
from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.space import Grid
from extract.device.backend import DTYPES
from extract.options import Which, parse_image_size, parse_which


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """One examination; None means: not asked for. image_size in voxels (D, H, W); volumes: how many to try."""

    checkpoint: Path | None = None
    encoder: str | None = None
    heads: int | None = None
    image_size: Grid | None = None
    which: Which = "context"
    bucket: str | None = None
    prefix: str = ""
    endpoint_url: str | None = None
    store: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    volumes: int = 4
    export: Path | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.encoder is not None:
            raise UsageError("expected one of --checkpoint and --encoder, got both")
        if self.encoder is not None and (self.heads is not None or self.which != "context"):
            raise UsageError("--heads and --which belong to --checkpoint; a random encoder has its own head count")
        if self.precision not in DTYPES:
            raise UsageError(f"precision {self.precision!r}: expected {' or '.join(DTYPES)}")
        if self.volumes < 1:
            raise UsageError(f"--volumes: expected a number from 1, got {self.volumes}")
        self._check_export()

    def _check_export(self) -> None:
        if self.export is None:
            return
        if self.checkpoint is None and self.encoder is None:
            raise UsageError("--export needs an encoder: say --checkpoint FILE")
        if self.export.suffix != ".safetensors":
            raise UsageError(f"--export {self.export}: expected a name that ends in .safetensors")
        if self.checkpoint is not None and self.export.resolve() == self.checkpoint.resolve():
            raise UsageError(f"--export {self.export}: expected another file than the checkpoint itself")


def parse_doctor(
    *,
    checkpoint: Path | None = None,
    encoder: str | None = None,
    heads: int | None = None,
    image_size: str | None = None,
    which: str = "context",
    bucket: str | None = None,
    prefix: str = "",
    endpoint_url: str | None = None,
    store: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    volumes: int = 4,
    export: Path | None = None,
) -> DoctorOptions:
    """Read the words of the command line. Raises UsageError, naming the option."""
    return DoctorOptions(
        checkpoint=checkpoint,
        encoder=encoder,
        heads=heads,
        image_size=parse_image_size(image_size) if image_size else None,
        which=parse_which(which),
        bucket=bucket,
        prefix=prefix,
        endpoint_url=endpoint_url,
        store=store,
        device=device,
        precision=precision,
        volumes=volumes,
        export=export,
    )
