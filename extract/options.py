"""What a run was asked to do, parsed once at the door."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from embeddings_store.errors import UsageError
from embeddings_store.token_codec import token_codec
from extract.bucket.where import Comparison, parse_where

POOLS = ("mean", "max", "std")
DEFAULT_TOKEN_DTYPE = "float16"

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
class ExtractOptions:
    """One run of extract-embeddings. ``batch_size`` None means: what suits the device.

    refresh: list anew whatever the catalogue says. participants: a table or list of ids to keep to.
    cache_dir, cache_gb: where raw objects are kept, and how many 10^9 bytes of them; None: nowhere.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    store: str
    choice: EncoderChoice
    preset: str
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    tokens: str
    token_dtype: str
    device: str
    precision: str
    batch_size: int | None
    streams: int
    limit: int | None
    where: tuple[Comparison, ...]
    participants: Path | None
    refresh: bool
    cache_dir: Path | None
    cache_gb: float


def parse_options(
    *,
    bucket: str,
    store: str,
    prefix: str = "",
    endpoint_url: str | None = None,
    checkpoint: Path | None = None,
    encoder: str | None = None,
    heads: int | None = None,
    interpolate: bool = False,
    which: str = "context",
    image_size: str | None = None,
    preset: str = "pretrain",
    layers: str = "last",
    pool: str = "mean,max,std",
    tokens: str = "full",
    token_dtype: str = DEFAULT_TOKEN_DTYPE,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: str = "auto",
    streams: int = 32,
    limit: int | None = None,
    where: str | None = None,
    participants: Path | None = None,
    refresh: bool = False,
    cache_dir: Path | None = None,
    cache_gb: float = 50.0,
) -> ExtractOptions:
    """Read the words of the command line. Raises UsageError, naming the option."""
    size = parse_image_size(image_size) if image_size else None
    return ExtractOptions(
        bucket=bucket,
        prefix=prefix,
        endpoint_url=endpoint_url,
        store=store,
        choice=EncoderChoice(checkpoint, encoder, heads, interpolate, size, parse_which(which)),
        preset=preset,
        layers=_parse_names("--layers", layers),
        pools=_parse_names("--pool", pool, allowed=POOLS),
        tokens=tokens,
        token_dtype=_parse_token_dtype(token_dtype, tokens),
        device=device,
        precision=precision,
        batch_size=None if batch_size == "auto" else _parse_count("--batch-size", batch_size),
        streams=streams,
        limit=limit,
        where=parse_where(where) if where else (),
        participants=participants,
        refresh=refresh,
        cache_dir=cache_dir,
        cache_gb=cache_gb,
    )


def parse_which(text: str) -> Which:
    """Read which encoder of a checkpoint is meant."""
    known: dict[str, Which] = {"context": "context", "target": "target"}
    if text not in known:
        raise UsageError(f"--which: expected context or target, got {text!r}")
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


def _parse_count(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option}: expected auto or a number from 1, got {text!r}")
    return int(text)
