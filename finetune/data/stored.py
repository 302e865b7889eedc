"""What a store of embeddings saves: the vectors of the starting encoder, and for attentive heads its tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import SpaceMismatchError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import Snapshot, read_features_source
from embeddings_store.space import EmbeddingSpace

LAYER, POOL = "last", "mean"

PRECISION = "precision"
IDENTITY = ("family", "weights_sha256", "image_size", "patch", "width", "depth", "heads", "preset", PRECISION)

ReadTokens = Callable[[list[str]], Float32[np.ndarray, "b N C"]]


@dataclass(frozen=True)
class StoredVectors:
    """Rows of a store in the space of the starting encoder."""

    snapshot: Snapshot
    url: str
    endpoint_url: str | None

    def differs_from(self, space: EmbeddingSpace) -> str | None:
        """Say what a store's other precision means for what is learned; None where it is that of ``space``."""
        own = self.snapshot.space.precision
        if own == space.precision:
            return None
        return (
            f"--store {self.url}: the head begins with {own} vectors, for which weights and activations were rounded; "
            f"training rounds the encoder's products alone, and keeps weights and norms in {space.precision}. Their "
            "cosine is 0.999 or more (extract-embeddings doctor measures it). Volumes that the store lacks are encoded "
            f"in {own}, too"
        )

    def by_volume(self) -> dict[str, Float32[np.ndarray, " C"]]:
        """Give the mean-pooled vector of the last layer of each volume."""
        layer, pool = self.snapshot.layers.index(LAYER), self.snapshot.pools.index(POOL)
        vectors = self.snapshot.pooled[:, layer, pool]
        return dict(zip(self.snapshot.index["volume"].tolist(), vectors, strict=True))

    def token_reader(self) -> ReadTokens:
        """Give what reads the tokens of volumes. Raises UsageError where the store holds other grids, or none."""
        space = self.snapshot.space
        whole = tuple(size // step for size, step in zip(space.image_size, space.patch, strict=True))
        if space.token_grid != whole:
            raise UsageError(
                f"--store {self.url}: an attentive head needs all tokens ({'x'.join(map(str, whole))}), the store "
                f"holds {space.token_grid or 'none'}; extract with --tokens full, or leave --store out"
            )
        reader = open_reader(self.url, endpoint_url=self.endpoint_url)
        row_of = dict(zip(self.snapshot.index["volume"], self.snapshot.index["row"].tolist(), strict=True))

        def read(volumes: list[str]) -> Float32[np.ndarray, "b N C"]:
            grids = reader.token_batch([int(row_of[volume]) for volume in volumes], LAYER)
            return grids.reshape(len(volumes), -1, grids.shape[-1]).astype(np.float32)

        return read


def open_stored(url: str, endpoint_url: str | None, wanted: EmbeddingSpace, precision: str) -> StoredVectors:
    """Open a store whose vectors are those of the starting encoder, in fp32 or in the precision of the recipe.

    Raises SpaceMismatchError, StoreError.
    """
    found = read_features_source(url, endpoint_url=endpoint_url)
    unlike = [name for name, value in _identity(wanted).items() if _identity(found.space)[name] != value]
    if unlike == [PRECISION] and found.space.precision == precision:
        unlike = []
    if unlike == [PRECISION]:
        raise SpaceMismatchError(
            f"--store {url}: expected vectors in fp32, or in the recipe's precision ({precision}), got "
            f"{found.space.precision}: say --set precision={found.space.precision}, or extract in --precision fp32"
        )
    if unlike or LAYER not in found.layers or POOL not in found.pools:
        raise SpaceMismatchError(
            f"--store {url}: expected layer {LAYER!r}, pool {POOL!r} of the encoder that is fine-tuned, in its preset "
            f"and precision; other there: {', '.join(unlike) or 'layers or pools'}; extract with that encoder, or "
            "leave --store out"
        )
    return StoredVectors(found, url, endpoint_url)


def _identity(space: EmbeddingSpace) -> dict[str, object]:
    """Give what decides a vector, besides which of them are kept."""
    return {name: value for name, value in space.to_dict().items() if name in IDENTITY}
