"""From scans to the montage of what augmentation does to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import UsageError
from embeddings_store.extras import require
from embeddings_store.schema import Eye
from extract.preprocess import frame_chooser, preprocess
from extract.readers.local import read_local
from extract.readers.read_options import ReadOptions
from finetune.data.augment.montage import draw_montage
from finetune.options import PRESET
from finetune.recipe.config import AugmentConfig


def draw_files(
    files: Sequence[Path], out: Path, config: AugmentConfig, *, image_size: tuple[int, int, int], seed: int
) -> None:
    """Draw the first file, mixed with the second where there is one, else with its own mirror image.

    Raises: UsageError where a file cannot be read or the picture cannot be written, ScanError.
    """
    if len(files) > 2:
        raise UsageError(f"montage: expected one file or two, got {len(files)}")
    require("matplotlib", "montage")
    volumes = [_read(path, image_size) for path in files]
    volume, eye = volumes[0]
    other = volumes[1][0] if len(volumes) > 1 else np.ascontiguousarray(volume[..., ::-1])
    try:
        draw_montage(volume, other, eye, config, seed, out)
    except OSError as error:
        raise UsageError(f"--out {out}: the picture cannot be written: {error.strerror}") from error


def _read(path: Path, image_size: tuple[int, int, int]) -> tuple[Float32[np.ndarray, "1 D H W"], Eye]:
    volume = read_local(path, ReadOptions(), frames=frame_chooser(PRESET, image_size[0]))
    return preprocess(volume, PRESET, image_size), volume.eye
