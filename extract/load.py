"""One volume from the bucket to the encoder's input, in two steps: fetch its bytes, then decode and resize them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Semaphore

import numpy as np
from jaxtyping import Float32, Int

from embeddings_store.errors import UsageError
from embeddings_store.index import IndexRow
from embeddings_store.machine import usable_cores
from embeddings_store.schema import ABSENT_SIZE, Note, RowFacts, VolumeFailure, VolumeRef
from extract.bucket.etags import note_of_etag
from extract.bucket.members import FetchedMembers
from extract.bucket.source import Fetched, PartlyFetched, Source
from extract.dicom.decoder_pool import DecoderPool
from extract.dicom.frame_decoder import FrameDecoder
from extract.dicom.reader import FrameChooser
from extract.errors import DamagedScan, DicomError, IncompleteConcatenation
from extract.failures import attempt
from extract.options import PartialReads
from extract.partial.downstream import Downstream
from extract.partial.reader import VolumeReader
from extract.parts import PartFinder
from extract.preprocess import Room, frame_chooser, plain_room, preprocess_and_measure
from extract.preset import Preset, Recipe
from extract.scan import AnyFetched, can_leave_out, read_fetched, without_unreadable
from extract.stages import StageClock
from extract.views import Views

UNKNOWN_SIZE_BYTES = 130_000_000  # a Triton cube: what is assumed of an object that only a manifest named


@dataclass(frozen=True, slots=True)
class LoadedVolume:
    """A volume with its augmented views, ready for the encoder, and what its row will say of its source."""

    line: IndexRow
    image: Float32[np.ndarray, "V D H W"]
    facts: RowFacts
    source_md5: bytes
    source_size: int


@dataclass(frozen=True, slots=True)
class FailedVolume:
    """A volume that ends as an error row."""

    line: IndexRow
    failure: VolumeFailure


@dataclass(frozen=True, slots=True)
class DecodedVolume:
    """What one decoding gave: an input, with its views, and facts for each recipe that was asked for."""

    images: Mapping[Recipe, Float32[np.ndarray, "V D H W"]]
    facts: Mapping[Recipe, RowFacts]
    source_md5: bytes
    source_size: int

    def made_by(self, line: IndexRow, recipe: Recipe) -> LoadedVolume:
        """Give the part that an encoder of this recipe needs, under the row that it has in its store."""
        return LoadedVolume(line, self.images[recipe], self.facts[recipe], self.source_md5, self.source_size)


@dataclass(frozen=True)
class VolumeLoader:
    """Fetches, reads and preprocesses one volume at a time; called from many threads."""

    reader: VolumeReader
    parts: PartFinder
    recipe: Recipe
    clock: StageClock
    decoding: Semaphore
    decode_frames: FrameDecoder
    views: Views
    allowed: frozenset[str] = frozenset()
    room: Room = plain_room

    def __call__(self, line: IndexRow) -> LoadedVolume | FailedVolume:
        """Load one volume for one recipe. Raises only what must stop the run (RunError)."""
        fetched = attempt("fetch", lambda: self.fetch(line.ref, (self.recipe,)))
        if isinstance(fetched, VolumeFailure):
            return FailedVolume(line, fetched)
        with self.decoding:
            decoded = attempt("decode", lambda: self.decode(line.ref, fetched, (self.recipe,)))
        if isinstance(decoded, VolumeFailure):
            return FailedVolume(line, decoded)
        return decoded.made_by(line, self.recipe)

    def cost_bytes(self, line: IndexRow) -> int:
        """Estimate what a volume in flight holds: its raw bytes, and the encoder's input."""
        return raw_bytes(line.ref) + self.input_bytes(self.recipe)

    def input_bytes(self, recipe: Recipe) -> int:
        """Give the size of an encoder's input of one volume: float32, and as much again for each view."""
        return 4 * int(np.prod(recipe.image_size)) * recipe.preset.channels * (1 + self.views.count)

    def fetch(self, ref: VolumeRef, recipes: Sequence[Recipe]) -> AnyFetched:
        """Get what decoding will need of an object. Raises: FetchError; BucketError when the bucket is gone."""
        with self.clock.time("fetch"):
            # What does not open of a stack is left out whoever uses it: no row depends on the encoders of a pass.
            return self.reader.fetch(ref, None if ref.reading.leave_out else _frames_for(recipes))

    def decode(self, ref: VolumeRef, fetched: AnyFetched, recipes: Sequence[Recipe]) -> DecodedVolume:
        """Decode a volume once, and prepare it by every recipe; the other parts of one in several objects come now.

        Raises: DicomError, PreprocessError, FetchError; BucketError when the bucket is gone.
        """
        try:
            return self._decode(ref, fetched, recipes)
        except IncompleteConcatenation:
            if not isinstance(fetched, Fetched):
                raise
            with self.clock.time("fetch"):
                others = self.parts.gather(ref, fetched)
            return self._decode(ref, fetched, recipes, others)
        except DicomError:
            if not isinstance(fetched, PartlyFetched):
                raise
        except DamagedScan:
            if not isinstance(fetched, FetchedMembers) or not can_leave_out(fetched, ref):
                raise
            return self._decode(ref, without_unreadable(fetched, ref)[0], recipes)
        # No md5 said whether the ranges came as they are in the bucket.
        return self._decode(ref, self.reader.fetch(ref, None), recipes)

    def _decode(
        self,
        ref: VolumeRef,
        fetched: AnyFetched,
        recipes: Sequence[Recipe],
        others: Sequence[Fetched] = (),
    ) -> DecodedVolume:
        with self.clock.time("decode"):
            frames = _frames_for(recipes)
            if isinstance(fetched, PartlyFetched):
                frames = _only(fetched.frames, frames)
            volume = read_fetched(
                fetched, ref, frames,
                others=others, decode=self.decode_frames, allowed=self.allowed,
            )  # fmt: skip
        with self.clock.time("preprocess"):
            first = plain_room if self.views.count else self.room  # views are copied behind it
            seen = {one: preprocess_and_measure(volume, one.preset, one.image_size, first) for one in recipes}
            images = {
                recipe: self.views.beside(one.image, volume.eye, ref.volume, self.room) for recipe, one in seen.items()
            }
        notes = volume.notes | _note_of_md5(fetched, others)
        facts = {recipe: replace(volume.facts, intensity=one.intensity, notes=notes) for recipe, one in seen.items()}
        return DecodedVolume(images, facts, fetched.md5, fetched.size)


def new_loader(
    source: Source,
    recipe: Recipe,
    clock: StageClock,
    *,
    partial_reads: PartialReads = "off",
    views: int = 0,
    allowed: frozenset[str] = frozenset(),
    room: Room = plain_room,
) -> VolumeLoader:
    """Make a loader that decodes as many volumes at once as there are cores. room: gives the memory of inputs.

    Raises: UsageError for parts of volumes of which the preset looks at all.
    """
    require_parts(recipe.preset, partial_reads)
    reader = VolumeReader(source, partial_reads, has_room=Downstream(clock).has_room)
    decoding = Semaphore(usable_cores())
    return VolumeLoader(reader, PartFinder(source), recipe, clock, decoding, DecoderPool(), Views(views), allowed, room)


def require_parts(preset: Preset, partial_reads: PartialReads) -> None:
    """Refuse parts of volumes of which a preset looks at all. Raises UsageError."""
    if partial_reads == "on" and preset.needs_all_frames:
        raise UsageError(f"--partial-reads on: the preset {preset.name!r} looks at every frame; take auto or off")


def raw_bytes(ref: VolumeRef) -> int:
    """Give the size of the object, or what is assumed of one that only a manifest named; 0 where there is none."""
    return 0 if ref.size == ABSENT_SIZE else ref.size if ref.size >= 0 else UNKNOWN_SIZE_BYTES


def _frames_for(recipes: Sequence[Recipe]) -> FrameChooser | None:
    """Choose the frames that any of the recipes touches."""
    kinds = dict.fromkeys((recipe.preset, recipe.image_size[0]) for recipe in recipes)
    choosers = [frame_chooser(preset, depth) for preset, depth in kinds]
    if len(choosers) == 1:
        return choosers[0]
    several = [choose for choose in choosers if choose is not None]
    if len(several) < len(choosers):
        return None
    return lambda count: np.unique(np.concatenate([choose(count) for choose in several]))


def _only(came: Sequence[int], frames: FrameChooser | None) -> FrameChooser:
    """Refuse to decode frames that were not fetched: they would be black."""

    def choose(count: int) -> Int[np.ndarray, "k"]:
        numbers = np.arange(count) if frames is None else frames(count)
        if not np.isin(numbers, came).all():
            raise ValueError("frames are needed that were not fetched")
        return numbers

    return choose


def _note_of_md5(fetched: AnyFetched, others: Sequence[Fetched]) -> Note:
    """Say why the md5 of any object of a scan was not checked: only a part came, or the ETag is none."""
    if isinstance(fetched, PartlyFetched):
        return Note.MD5_UNCHECKED
    if isinstance(fetched, Fetched):
        came, note = (fetched, *others), Note.NONE
    else:
        came = tuple(got for _, _, got in fetched.objects)
        note = Note.NONE if len(came) == fetched.count else Note.MD5_UNCHECKED
    for one in came:
        note |= note_of_etag(one.etag, one.size, one.md5)
    return note
