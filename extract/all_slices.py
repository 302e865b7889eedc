"""How many frames ``--slices all`` stands for: the rows of a store are of one shape, so all volumes need as many."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

import numpy as np

from embeddings_store.errors import UsageError, VolumeError
from extract.bucket.manifest import UNKNOWN_FRAMES
from extract.dicom.header import FileBytes
from extract.dicom.reader import read_dicom
from extract.encoder_options import Preprocessing
from extract.options import ExtractOptions
from extract.selection import Selection

TRIES = 8  # volumes of unknown frames that are opened until one can be read

P = TypeVar("P", bound=Preprocessing)


def with_frames_of_bucket(options: ExtractOptions, selection: Selection) -> ExtractOptions:
    """Give the options, with the number of frames of the volumes of a run where all are asked for.

    The manifest says it; where it does not, the first volume that can be read. Raises UsageError where they differ.
    """
    if options.slices != "all" or options.image_size is not None:
        return options
    counts = Counter(selection.catalogue.frames(ref.key) for ref in selection.refs)
    unknown = counts.pop(UNKNOWN_FRAMES, 0)
    if len(counts) > 1:
        met = ", ".join(f"{frames} ({volumes:,} volumes)" for frames, volumes in sorted(counts.items())[:5])
        raise UsageError(
            f"--slices all: expected volumes with one number of frames, got {met}: choose some (--where frames=N), or "
            "say how many slices (--slices 16)"
        )
    if not counts and unknown:
        return replace(options, frames_of_all=_count_first(options, selection))
    return replace(options, frames_of_all=next(iter(counts), None))


def _count_first(options: ExtractOptions, selection: Selection) -> int:
    for ref in selection.refs[:TRIES]:
        try:
            return _count(selection.source.fetch(ref).data, options.allowed_classes)
        except VolumeError:  # it gets its error row when its turn comes
            continue
    raise UsageError(
        f"--slices all: none of the first {TRIES} volumes can be read to count its frames; say --slices N, or "
        "--image-size frames,rows,columns"
    )


def _count(data: FileBytes, allowed: Collection[str]) -> int:
    return read_dicom(data, frames=lambda _: np.arange(1), allowed=allowed).frame_count
