"""What a run was asked to do, parsed once at the door."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from embeddings_store.errors import UsageError
from embeddings_store.token_codec import token_codec
from extract.allowed import parse_classes
from extract.bucket.where import Comparison, parse_where
from extract.preset import DEFAULT

POOLS = ("mean", "max", "std")
DEFAULT_TOKEN_DTYPE = "float16"
ENGINES = ("local", "ray")
DEVICES_OF_RAY = ("auto", "cpu", "cuda")

PartialReads = Literal["auto", "on", "off"]
"""Whether of a volume only the header and the frames in use are fetched; auto: where that is found to be faster."""

Which = Literal["context", "target"]
"""A trainer's file holds two encoders; the context encoder is the one that was trained."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Which encoder: a checkpoint file or a random one, and what the file does not say."""

    checkpoint: Path | None
    encoder: str | None
    heads: int | None = None
    interpolate: bool = False
    image_size: tuple[int, int, int] | None = None
    which: Which = "context"

    def arguments(self) -> dict[str, Any]:
        """Give the fields as keyword arguments of open_encoder."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Output:
    """One encoder, and the store that its rows go to."""

    choice: EncoderChoice
    store: str


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """One run of extract-embeddings. ``batch_size``, ``decoders``, ``writers`` None mean: what suits the machine.

    preset: what was typed; None: the default, for the encoders that were trained with it.
    outputs: encoders with their stores, all fed by one pass. rank, ranks: which of how many processes this is, None:
    what the surroundings say. views: augmented views of each volume that are pooled beside it. refresh: list anew
    whatever the catalogue says. participants: a table or list of ids to keep to. cache_dir, cache_gb: where raw
    objects are kept, and how many 10^9 bytes of them; None: nowhere. usd_per_hour: what the machine costs, where the
    user knows it. allow_sop_class: UIDs of other objects to take.
    ray_address: of a cluster; None: Ray's own default.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    outputs: tuple[Output, ...]
    preset: str | None
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    tokens: str
    token_dtype: str
    device: str
    precision: str
    batch_size: int | None
    engine: str
    ray_address: str | None
    streams: int
    decoders: int | None
    writers: int | None
    rank: int | None
    ranks: int | None
    usd_per_hour: float | None
    limit: int | None
    where: tuple[Comparison, ...]
    participants: Path | None
    refresh: bool
    cache_dir: Path | None
    cache_gb: float
    partial_reads: PartialReads
    views: int
    allow_sop_class: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of the command line, unread; store, checkpoint and encoder may be one or several."""

    bucket: str
    store: str | Sequence[str]
    prefix: str = ""
    endpoint_url: str | None = None
    checkpoint: Path | Sequence[Path] | None = None
    encoder: str | Sequence[str] | None = None
    heads: int | None = None
    interpolate: bool = False
    which: str = "context"
    image_size: str | None = None
    preset: str | None = None
    layers: str = "last"
    pool: str = "mean,max,std"
    tokens: str = "full"
    token_dtype: str = DEFAULT_TOKEN_DTYPE
    device: str = "auto"
    precision: str = "fp32"
    batch_size: str = "auto"
    engine: str = "local"
    ray_address: str | None = None
    streams: int = 32
    decoders: str = "auto"
    writers: str = "auto"
    rank: int | None = None
    ranks: int | None = None
    usd_per_hour: float | None = None
    limit: int | None = None
    where: str | None = None
    participants: Path | None = None
    refresh: bool = False
    cache_dir: Path | None = None
    cache_gb: float = 50.0
    partial_reads: str = "auto"
    views: int = 0
    allow_sop_class: Sequence[str] = ()


def parse_options(**words: Any) -> ExtractOptions:
    """Read the words of the command line: the fields of Words. Raises UsageError, naming the option."""
    return _read(Words(**words))


def _read(words: Words) -> ExtractOptions:
    return ExtractOptions(
        bucket=words.bucket,
        prefix=words.prefix,
        endpoint_url=words.endpoint_url,
        outputs=_pair_outputs(_parse_choices(words), _several(words.store)),
        preset=words.preset,
        layers=_parse_names("--layers", words.layers),
        pools=_parse_names("--pool", words.pool, allowed=POOLS),
        tokens=words.tokens,
        token_dtype=_parse_token_dtype(words.token_dtype, words.tokens),
        device=words.device,
        precision=words.precision,
        batch_size=_parse_count("--batch-size", words.batch_size),
        engine=_parse_engine(words),
        ray_address=words.ray_address,
        streams=words.streams,
        decoders=_parse_count("--decoders", words.decoders),
        writers=_parse_count("--writers", words.writers),
        rank=words.rank,
        ranks=words.ranks,
        usd_per_hour=words.usd_per_hour,
        limit=words.limit,
        allow_sop_class=parse_classes(words.allow_sop_class),
        where=parse_where(words.where) if words.where else (),
        participants=words.participants,
        refresh=words.refresh,
        cache_dir=words.cache_dir,
        cache_gb=words.cache_gb,
        partial_reads=_parse_partial_reads(words.partial_reads, words.cache_dir),
        views=_parse_views(words.views, words.preset),
    )


def parse_which(text: str) -> Which:
    """Read which encoder of a checkpoint is meant."""
    known: dict[str, Which] = {"context": "context", "target": "target"}
    if text not in known:
        raise UsageError(f"--which: expected context or target, got {text!r}")
    return known[text]


def _parse_views(count: int, preset: str | None) -> int:
    if count and preset not in (None, DEFAULT):
        raise UsageError(
            f"--views {count}: views are made with the intensities of the preset {DEFAULT}, got {preset!r}"
        )
    return count


def _parse_partial_reads(text: str, cache_dir: Path | None) -> PartialReads:
    known: dict[str, PartialReads] = {"auto": "auto", "on": "on", "off": "off"}
    if text not in known:
        raise UsageError(f"--partial-reads: expected auto, on or off, got {text!r}")
    if text == "on" and cache_dir is not None:
        raise UsageError("--partial-reads on: --cache-dir keeps whole objects only; leave one of the two out")
    return known[text]


def parse_image_size(text: str) -> tuple[int, int, int]:
    """Read "64,384,384" as (D, H, W)."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--image-size: expected three voxel counts D,H,W such as 64,384,384, got {text!r}")
    depth, height, width = (int(part) for part in parts)
    return depth, height, width


def _parse_names(option: str, text: str, allowed: tuple[str, ...] | None = None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if not name or (allowed and name not in allowed)]:
        raise UsageError(f"{option}: expected any of {', '.join(allowed or ('1', 'last'))}, got {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise UsageError(f"{option}: expected each name once, got {text!r}")
    return names


def _parse_token_dtype(text: str, tokens: str) -> str:
    token_codec(text)
    if tokens == "none" and text != DEFAULT_TOKEN_DTYPE:
        raise UsageError(f"--token-dtype {text}: expected tokens to store, got --tokens none; leave one of them out")
    return text


def _parse_choices(words: Words) -> list[EncoderChoice]:
    """Make a choice of each checkpoint, then of each encoder; what only a checkpoint has goes to every checkpoint."""
    size, which = parse_image_size(words.image_size) if words.image_size else None, parse_which(words.which)
    given = words.checkpoint
    checkpoints = () if given is None else (given,) if isinstance(given, Path) else given
    trained = [EncoderChoice(one, None, words.heads, words.interpolate, size, which) for one in checkpoints]
    # Without any checkpoint its options are in the wrong place, which open_encoder says.
    of_random: dict[str, Any] = (
        {} if trained else {"heads": words.heads, "interpolate": words.interpolate, "which": which}
    )
    return trained + [EncoderChoice(None, one, image_size=size, **of_random) for one in _several(words.encoder)]


def _pair_outputs(choices: Sequence[EncoderChoice], stores: Sequence[str]) -> tuple[Output, ...]:
    if not choices:
        raise UsageError("expected at least one encoder: --checkpoint FILE or --encoder random:tiny|random:base")
    if len(choices) != len(stores):
        names = [str(one.checkpoint or one.encoder) for one in choices]
        raise UsageError(
            f"--store: expected {len(choices)}, one for each of {', '.join(names)} in this order (every --checkpoint, "
            f"then every --encoder), got {len(stores)}: {', '.join(stores)}"
        )
    if len({store.rstrip("/") for store in stores}) < len(stores):
        raise UsageError(f"--store: expected a store of its own for each encoder, got {', '.join(stores)}")
    return tuple(Output(choice, store) for choice, store in zip(choices, stores, strict=True))


def _parse_engine(words: Words) -> str:
    if words.engine not in ENGINES:
        raise UsageError(f"--engine: expected {' or '.join(ENGINES)}, got {words.engine!r}")
    if words.engine == "local" and words.ray_address is not None:
        raise UsageError("--ray-address: only --engine ray goes to a Ray cluster; add it, or leave the address out")
    if words.engine == "ray" and words.ranks is not None:
        raise UsageError("--engine ray shares the volumes out by itself: leave out --rank and --ranks")
    if words.engine == "ray" and words.device not in DEVICES_OF_RAY:
        raise UsageError(
            f"--engine ray: expected --device {', '.join(DEVICES_OF_RAY)}, got {words.device!r}; on a TPU pod "
            "run the same command on every host with --engine local"
        )
    return words.engine


def _several(given: str | Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def _parse_count(option: str, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option}: expected auto or a number from 1, got {text!r}")
    return int(text)
