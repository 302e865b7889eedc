"""The device's part of a pass: volumes become batches, batches become rows; one that fails takes no neighbour along."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float16, Float32

from embeddings_store.schema import VolumeFailure
from extract.encode import BatchEncoder, EncodedBatch, SubmittedBatch
from extract.failures import attempt, describe_failure
from extract.load import DecodedVolume, LoadedVolume
from extract.stages import StageClock
from extract.targets import Job, Target


@dataclass(frozen=True, slots=True)
class Batch:
    """Volumes for one target."""

    target: int
    volumes: list[LoadedVolume]


@dataclass(frozen=True, slots=True)
class EncodedVolume:
    """What one volume's row will hold; tokens by layer, none where no grid is stored."""

    target: int
    volume: LoadedVolume
    pooled: Float32[np.ndarray, "L P C"]
    tokens: Mapping[str, Float16[np.ndarray, "gd gh gw C"]]


@dataclass(frozen=True, slots=True)
class RefusedVolume:
    """A volume that gets an error row in one store."""

    target: int
    volume: LoadedVolume
    failure: VolumeFailure


Encoded = EncodedVolume | RefusedVolume


def make_batches(
    volumes: Iterable[tuple[Job, DecodedVolume]], targets: Sequence[Target], let_go: Callable[[Job], None]
) -> Iterator[Batch]:
    """Group volumes as they come, for each target by itself; only the last batch of a target may be short.

    let_go: told of each volume that was taken.
    """
    waiting: list[list[LoadedVolume]] = [[] for _ in targets]
    for job, decoded in volumes:
        let_go(job)
        for number, line in job.lines.items():
            waiting[number].append(decoded.made_by(line, targets[number].recipe))
            if len(waiting[number]) >= targets[number].batches.batch_size:
                yield Batch(number, waiting[number])
                waiting[number] = []
    for number, rest in enumerate(waiting):
        if rest:
            yield Batch(number, rest)


def encode_batches(
    batches: Iterable[Batch], targets: Sequence[Target], clock: StageClock, *, behind: int
) -> Iterator[Encoded]:
    """Encode batch after batch; collect each ``behind`` batches late: the device works while the host reads on."""
    waiting = deque[tuple[Batch, SubmittedBatch | VolumeFailure]]()
    for batch in batches:
        with clock.time("encode"):
            waiting.extend(_begin(batch, targets[batch.target].batches))
        while len(waiting) > behind:
            yield from _finish(*waiting.popleft(), targets, clock)
    while waiting:
        yield from _finish(*waiting.popleft(), targets, clock)


def _begin(batch: Batch, encoder: BatchEncoder) -> list[tuple[Batch, SubmittedBatch | VolumeFailure]]:
    begun = attempt("encode", partial(_submit, batch, encoder))
    return [(batch, begun)] if isinstance(begun, VolumeFailure) else begun


def _submit(batch: Batch, encoder: BatchEncoder) -> list[tuple[Batch, SubmittedBatch | VolumeFailure]]:
    parts = list[tuple[Batch, SubmittedBatch | VolumeFailure]]()
    left = batch.volumes
    for submitted in encoder.submit_fitting(_images(batch.volumes)):
        parts.append((Batch(batch.target, left[: submitted.count]), submitted))
        left = left[submitted.count :]
    return parts


def _finish(
    batch: Batch, begun: SubmittedBatch | VolumeFailure, targets: Sequence[Target], clock: StageClock
) -> list[Encoded]:
    """Collect a batch; where it failed as a whole, encode its volumes one by one, to learn which is to blame."""
    encoder = targets[batch.target].batches
    with clock.time("encode"):
        found = begun if isinstance(begun, VolumeFailure) else attempt("encode", partial(encoder.collect, begun))
        if not isinstance(found, VolumeFailure):
            return [_take_apart(batch, found, index) for index in range(len(batch.volumes))]
        if len(batch.volumes) == 1:
            return [RefusedVolume(batch.target, batch.volumes[0], found)]
        alone = [Batch(batch.target, [volume]) for volume in batch.volumes]
        again = [attempt("encode", partial(encoder.encode, _images(one.volumes))) for one in alone]
        return [_take_apart(one, result, 0) for one, result in zip(alone, again, strict=True)]


def _take_apart(batch: Batch, encoded: EncodedBatch | VolumeFailure, index: int) -> Encoded:
    volume = batch.volumes[index]
    if isinstance(encoded, VolumeFailure):
        return RefusedVolume(batch.target, volume, encoded)
    if index in encoded.failures:
        return RefusedVolume(batch.target, volume, describe_failure(encoded.failures[index]))
    tokens = {layer: grids[index] for layer, grids in encoded.tokens.items()}
    return EncodedVolume(batch.target, volume, encoded.pooled[index], tokens)


def _images(volumes: Sequence[LoadedVolume]) -> list[Float32[np.ndarray, "V D H W"]]:
    return [volume.image for volume in volumes]
