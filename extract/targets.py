"""Where a pass over the bucket ends: each encoder with a store of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from embeddings_store.encoder_source import PATH, record_encoder_source
from embeddings_store.errors import UsageError
from embeddings_store.index import IndexRow, index_rows, read_index
from embeddings_store.ranks import Rank, announce_volumes
from embeddings_store.schema import VolumeRef
from embeddings_store.space import EmbeddingSpace
from embeddings_store.writer import StoreWriter, open_writer
from extract.device.backend import Backend
from extract.device.fitting import starting_batch_size
from extract.doctor.weights import find_source
from extract.encode import BatchEncoder, build_space
from extract.encoder.encoder import Encoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import preset_of
from extract.encoder_options import EncoderChoice
from extract.layouts.contract import Listing
from extract.load import require_parts
from extract.options import ExtractOptions, Output
from extract.pooling import parse_token_grid
from extract.preset import Preset, Recipe
from extract.reading_record import keep_reading
from extract.views import Views
from extract.worker import worker_record


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder, ready on the device, with the place and the space of what it will make."""

    store: str
    encoder: Encoder
    batches: BatchEncoder
    space: EmbeddingSpace
    choice: EncoderChoice
    recipe: Recipe


@dataclass(frozen=True)
class Target:
    """An opened encoder and its store; missing: the rows that the store lacks, by key, whoever is to make them."""

    opened: OpenedEncoder
    writer: StoreWriter
    missing: Mapping[str, IndexRow]

    @property
    def batches(self) -> BatchEncoder:
        """The encoder, ready on the device."""
        return self.opened.batches

    @property
    def recipe(self) -> Recipe:
        """What makes the encoder's input of a volume."""
        return self.opened.recipe


@dataclass(frozen=True, slots=True)
class Job:
    """One volume that some stores lack: its row in each of them, by the number of the target."""

    ref: VolumeRef
    lines: Mapping[int, IndexRow]


def open_encoders(options: ExtractOptions, backend: Backend) -> list[OpenedEncoder]:
    """Open every encoder, and touch no store. Raises: CheckpointError, DeviceError, UsageError."""
    return [_open_encoder(output, options, backend) for output in options.outputs]


def require_volumes(encoders: Sequence[Encoder], listing: Listing) -> None:
    """Refuse single B-scans for an encoder that sees several, before anything is fetched. Raises: UsageError."""
    if not listing.single_pictures:
        return
    for one in encoders:
        if (depth := one.architecture.image_size[0]) > 1:
            advice = "leave --slices and --image-size out, or say 1 slice" if one.architecture.kind.slices else ""
            raise UsageError(
                f"--layout {listing.layout}: its scans are single B-scans, and {one.source} takes {depth} of a volume: "
                f"{advice or 'take an encoder of slices (see extract-embeddings encoders)'}"
            )


def open_target(
    opened: OpenedEncoder, refs: Sequence[VolumeRef], options: ExtractOptions, backend: Backend, rank: Rank
) -> Target:
    """Open the store, which then knows every volume; of several processes the first one tells it.

    Raises: StoreError; UsageError where its rows are of files that were read in another way.
    """
    writer = open_store(opened, options, backend)
    keep_reading(writer, refs)
    announce_volumes(writer, refs, rank)
    missing = writer.missing_rows([ref.key for ref in refs])
    return Target(opened, writer, {line.ref.key: line for line in missing})


def open_store(opened: OpenedEncoder, options: ExtractOptions, backend: Backend) -> StoreWriter:
    """Open an encoder's store for writing, and leave there who writes, with which encoder. Raises StoreError."""
    writer = open_writer(opened.store, opened.space, endpoint_url=options.endpoint_url, worker=worker_record(backend))
    if writer.storage.get(PATH) is None:
        record_encoder_source(writer.storage, find_source(opened.encoder, opened.choice))
    return writer


def list_jobs(targets: Sequence[Target], refs: Sequence[VolumeRef], rank: Rank) -> list[Job]:
    """List, in the bucket's order, what this process has to do: each volume once, whatever number of stores lacks it.

    A volume belongs to the process that owns its row in the first store, so that no two fetch it.
    """
    own = rank.own(index_rows(read_index(targets[0].writer.storage)))
    mine = {line.ref.key for line in own}
    jobs = []
    for ref in refs:
        lines = {number: target.missing[ref.key] for number, target in enumerate(targets) if ref.key in target.missing}
        if lines and ref.key in mine:
            known = next(iter(lines.values())).ref
            jobs.append(Job(replace(known, members=ref.members, reading=ref.reading), lines))
    return jobs


def preset_in_run(encoder: Encoder, options: ExtractOptions) -> Preset:
    """Give the preset of one encoder of a run. Raises UsageError; so too for parts of volumes it looks at all of."""
    preset = preset_of(encoder, options, views=options.views, several=len(options.outputs) > 1)
    require_parts(preset, options.partial_reads)
    return preset


def _open_encoder(output: Output, options: ExtractOptions, backend: Backend) -> OpenedEncoder:
    options = options.of(output)
    encoder = open_encoder(**output.choice.arguments(), slices=options.slice_count)
    preset = preset_in_run(encoder, options)
    architecture = encoder.architecture
    grid = parse_token_grid(options.tokens, architecture.grid)
    batches = BatchEncoder(
        encoder,
        backend,
        layers=options.layers,
        pools=options.pools,
        token_grid=grid,
        channels=preset.channels,
        batch_size=options.batch_size or starting_batch_size(backend, architecture, len(options.layers)),
        compiled=options.compiled,
    )
    space = build_space(
        encoder,
        preset.to_dict(),
        layers=options.layers,
        pools=options.pools,
        token_grid=grid,
        precision=backend.precision,
        token_dtype=options.token_dtype,
        views=Views(options.views) if options.views else None,
    )
    return OpenedEncoder(output.store, encoder, batches, space, output.choice, Recipe(preset, architecture.image_size))
