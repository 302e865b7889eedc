"""How many frames ``--slices all`` stands for: the rows of a store are of one shape, so all volumes need as many."""

from collections import Counter
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from embeddings_store.errors import UsageError, VolumeError
from extract.bucket.manifest import UNKNOWN_FRAMES
from extract.bucket.members import fetch_scan
from extract.encoder_options import Preprocessing
from extract.options import ExtractOptions
from extract.scan import read_fetched
from extract.selection import Selection

TRIES = 8  # volumes of unknown frames that are opened until one can be read

P = TypeVar("P", bound=Preprocessing)


def with_frames_of_bucket(options: ExtractOptions, selection: Selection) -> ExtractOptions:
    """Give the options, with the number of frames of the volumes of a run where all are asked for, or each has but one.

    The manifest says it; where it does not, the first volume that can be read. Raises UsageError where they differ.
    """
    if selection.catalogue.listing.single_pictures and options.image_size is None:
        options = replace(options, single_pictures=True)
    if "all" not in {one.slices for one in options.outputs} or options.image_size is not None:
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
            fetched = fetch_scan(selection.source, ref, _first)
            return read_fetched(fetched, ref, _first, allowed=options.allowed_classes).frame_count
        except VolumeError:  # it gets its error row when its turn comes
            continue
    raise UsageError(
        f"--slices all: none of the first {TRIES} volumes can be read to count its frames; say --slices N, or "
        "--image-size frames,rows,columns"
    )


def _first(_: int) -> Int[np.ndarray, "1"]:
    return np.arange(1)
