"""One volume from the bucket to the encoder's input; whatever is wrong with it becomes a reason, not a crash."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Semaphore
from traceback import extract_tb

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import OctProbeError, VolumeError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Note, RowFacts, VolumeFailure
from extract.bucket.source import Fetched, Source
from extract.dicom.decoder_pool import DecoderPool
from extract.dicom.frame_decoder import FrameDecoder
from extract.dicom.reader import read_dicom
from extract.preprocess import frame_chooser, preprocess_and_measure
from extract.preset import Preset
from extract.stages import StageClock

MD5_DIGITS = 32
UNKNOWN_SIZE_BYTES = 130_000_000  # a Triton cube: what is assumed of an object that only a manifest named


@dataclass(frozen=True, slots=True)
class LoadedVolume:
    """A volume that is ready for the encoder, and what its row will say of its source."""

    line: IndexRow
    image: Float32[np.ndarray, "1 D H W"]
    facts: RowFacts
    source_md5: bytes
    source_size: int


@dataclass(frozen=True, slots=True)
class FailedVolume:
    """A volume that ends as an error row."""

    line: IndexRow
    failure: VolumeFailure


@dataclass(frozen=True)
class VolumeLoader:
    """Fetches, reads and preprocesses one volume at a time; called from many threads."""

    source: Source
    preset: Preset
    image_size: tuple[int, int, int]
    clock: StageClock
    decoding: Semaphore
    decode: FrameDecoder

    def __call__(self, line: IndexRow) -> LoadedVolume | FailedVolume:
        """Load one volume. Raises only what must stop the run (RunError)."""
        try:
            return self._load(line)
        except VolumeError as error:
            return FailedVolume(line, describe_failure(error))
        except OctProbeError:
            raise
        except Exception as error:  # noqa: BLE001 - the one place that turns any failure of a volume into a row
            return FailedVolume(line, _unexpected(error))

    def cost_bytes(self, line: IndexRow) -> int:
        """Estimate what a volume in flight holds: its raw bytes, and the encoder's input."""
        raw = line.ref.size if line.ref.size >= 0 else UNKNOWN_SIZE_BYTES
        return raw + 4 * int(np.prod(self.image_size))

    def _load(self, line: IndexRow) -> LoadedVolume:
        with self.clock.time("fetch"):
            fetched = self.source.fetch(line.ref)
        with self.decoding:
            with self.clock.time("decode"):
                frames = frame_chooser(self.preset, self.image_size[0])
                volume = read_dicom(fetched.data, ref=line.ref, frames=frames, decode=self.decode)
            with self.clock.time("preprocess"):
                seen = preprocess_and_measure(volume, self.preset, self.image_size)
        facts = replace(volume.facts, intensity=seen.intensity, notes=volume.notes | _note_of_etag(fetched))
        return LoadedVolume(line, seen.image, facts, fetched.md5, fetched.size)


def new_loader(source: Source, preset: Preset, image_size: tuple[int, int, int], clock: StageClock) -> VolumeLoader:
    """Make a loader that decodes as many volumes at once as there are cores."""
    return VolumeLoader(source, preset, image_size, clock, Semaphore(os.cpu_count() or 1), DecoderPool())


def _note_of_etag(fetched: Fetched) -> Note:
    """Mark an ETag that looks like an md5 and is none: the source fetched it all the same, so the server encrypts."""
    is_other = len(fetched.etag) == MD5_DIGITS and "-" not in fetched.etag and fetched.etag.lower() != fetched.md5.hex()
    return Note.ETAG_IS_NO_MD5 if is_other else Note.NONE


def describe_failure(error: VolumeError) -> VolumeFailure:
    """Put an error of one volume into the words of its error row."""
    return VolumeFailure(error.stage, type(error).__name__, str(error), attempts=1)


def _unexpected(error: Exception) -> VolumeFailure:
    """Name the place, but not the words: a foreign message may quote the file, and with it a patient."""
    place = extract_tb(error.__traceback__)[-1]
    message = f"unexpected {type(error).__name__} at {Path(place.filename).name}:{place.lineno}; please report it"
    return VolumeFailure("decode", type(error).__name__, message, attempts=1)
