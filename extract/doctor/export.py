"""--export: the encoder as .safetensors, read back before it counts as written."""

from pathlib import Path

from safetensors import SafetensorError

from extract.doctor.report import Check, Report, Status
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.safetensors_file import export_safetensors
from extract.errors import CheckpointError


def examine_export(encoder: Encoder, path: Path) -> tuple[Report, None]:
    """Write the encoder, complete or not at all, and read it back. Raises CheckpointError."""
    try:
        export_safetensors(encoder, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"--export {path}: expected a place that can be written, got {type(error).__name__}: {error}"
        ) from error
    finally:
        path.with_name(f".{path.name}.partial").unlink(missing_ok=True)
    found = load_checkpoint(path)
    if found.weights_sha256 != encoder.weights_sha256 or found.architecture != encoder.architecture:
        raise CheckpointError(f"--export {path}: what came back is not what was written; the disk is faulty")
    size = path.stat().st_size
    words = f"{path}: {size / 1e6:,.1f} MB, read back, weights {encoder.weights_sha256[:16]}"
    return Report((Check("export", Status.OK, words),), {"export_bytes": size}), None
