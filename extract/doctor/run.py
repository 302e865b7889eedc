"""The verb: examine what a long run would rely on, part by part, and go on where one of them fails."""

from collections.abc import Callable
from functools import partial

from extract.device.backend import Backend
from extract.doctor.bucket import Computing, Encode, Samples, examine_bucket, examine_volumes
from extract.doctor.decoders import examine_decoders, examine_versions
from extract.doctor.export import examine_export
from extract.doctor.geometry import examine_geometry
from extract.doctor.options import DoctorOptions
from extract.doctor.parity import examine_device, examine_parity
from extract.doctor.report import Examination, Report
from extract.doctor.store import examine_space, examine_store
from extract.doctor.token_codec import FIGURES, examine_token_codec
from extract.doctor.weights import examine_checkpoint, examine_preset, examine_random
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.encoder.own_preset import preset_of
from extract.preset import Recipe

GEOMETRY = ("effective_rank", "effective_rank_tokens", "twin_cka")


def examine(options: DoctorOptions, tell: Callable[[str], None]) -> Report:
    """Examine whatever was asked for, and what every run needs; ``tell`` hears what is being looked at.

    Raises UsageError for an option that is wrong in itself; every other failure is a failed check.
    """
    visit = Examination(tell)
    visit.attempt("versions", examine_versions)
    visit.attempt("decoders", examine_decoders)
    encoder = _encoder(visit, options)
    backend = visit.attempt("device", lambda: examine_device(options.device, options.precision))
    if backend is not None and _usable(options, encoder):
        visit.attempt("parity", lambda: examine_parity(encoder, backend))
    if options.bucket is not None:
        _bucket(visit, options, encoder, backend)
    if options.store is not None:
        _store(visit, options, encoder)
    if options.export is not None and encoder is not None:
        visit.attempt("export", partial(examine_export, encoder, options.export))
    return visit.report


def _encoder(visit: Examination, options: DoctorOptions) -> Encoder | None:
    path, name = options.checkpoint, options.encoder
    encoder = None
    if path is not None:
        encoder = visit.attempt(
            "encoder",
            lambda: examine_checkpoint(
                path,
                heads=options.heads,
                image_size=options.image_size,
                which=options.which,
                interpolate=options.interpolate,
                family=name,
                slices=options.slice_count,
            ),
        )
    elif name is not None:
        encoder = visit.attempt("encoder", lambda: examine_random(name, options.image_size, options.slice_count))
    if encoder is not None:
        visit.attempt("preset", lambda: examine_preset(encoder, options))
    return encoder


def _usable(options: DoctorOptions, encoder: Encoder | None) -> bool:
    """Parity with a stand-in is for those who named no encoder: one that was refused has no parity."""
    return encoder is not None or (options.checkpoint is None and options.encoder is None)


def _bucket(visit: Examination, options: DoctorOptions, encoder: Encoder | None, backend: Backend | None) -> None:
    """Read a few volumes; judge their embeddings where encoder and device are both there."""
    bucket = options.bucket or ""
    found = visit.attempt(
        "bucket", lambda: examine_bucket(bucket, options.prefix, options.endpoint_url, options.layout_choice)
    )
    if found is None:
        return
    source, refs = found
    computing = None
    if encoder is not None and backend is not None:
        computing = Computing(encoder, backend.name, _tokens_with(encoder, backend))
    samples = visit.attempt(
        "volumes", lambda: examine_volumes(source, refs, options.volumes, _recipe(options, encoder), computing)
    )
    if samples is None or encoder is None or backend is None:
        visit.add(
            Report(absent=dict.fromkeys((*GEOMETRY, *FIGURES), "it needs volumes, an encoder and a device, all usable"))
        )
        return
    _geometry(visit, encoder, backend, samples)
    visit.attempt("token codec", lambda: examine_token_codec(samples.tokens))


def _geometry(visit: Examination, encoder: Encoder, backend: Backend, samples: Samples) -> None:
    visit.attempt("geometry", lambda: examine_geometry(encoder, backend, samples.images, samples.tokens))


def _store(visit: Examination, options: DoctorOptions, encoder: Encoder | None) -> None:
    place = options.store or ""
    space = visit.attempt("store", lambda: examine_store(place, options.endpoint_url))
    if space is not None and encoder is not None:
        visit.attempt("space", lambda: examine_space(space, encoder, options.precision))


def _tokens_with(encoder: Encoder, backend: Backend) -> Encode:
    runner = BatchEncoder(encoder, backend)
    return lambda image: runner.tokens(image[None])[0]


def _recipe(options: DoctorOptions, encoder: Encoder | None) -> Recipe:
    """Preprocess as the encoder needs it; without an encoder as was asked for, or for the full one."""
    if encoder is not None:
        return Recipe(preset_of(encoder, options), encoder.architecture.image_size)
    preset = options.prepared(None, options.image_size)
    return Recipe(preset, options.image_size or preset.image_size)
