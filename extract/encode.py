"""A batch of preprocessed volumes through the encoder: pooled vectors and token grids, ready for rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch import Tensor

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.row_checks import all_finite
from embeddings_store.space import EmbeddingSpace
from embeddings_store.terminal.console import say
from extract.device.backend import Backend
from extract.device.compiled import CompileMode, compiled_forward
from extract.encoder.architecture import LAST
from extract.encoder.encoder import Encoder
from extract.encoder.module import prefix_of
from extract.errors import DeviceError, EncodeError, NotFinite, TokenOverflow
from extract.pooling import CLS, pool, reduce_tokens, require_division, require_pools
from extract.views import Views

Volumes = Float32[np.ndarray, "b V D H W"] | Sequence[Float32[np.ndarray, "V D H W"]]
"""A batch; as volumes that lie apart it needs no copy of its own."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What the volumes of one batch became, in their order.

    tokens: by layer; empty where no grid is stored. failures: why the volume at an index may not become a row.
    """

    pooled: Float32[np.ndarray, "B L P C"]
    tokens: Mapping[str, Float16[np.ndarray, "B gd gh gw C"]]
    failures: Mapping[int, EncodeError]


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """A batch on the device, perhaps still being computed; ``count`` leaves out what only padded it.

    pooled: of the volumes themselves, then of each of their augmented views. All are on their way to the host; a call
    waits for one.
    """

    count: int
    pooled: Sequence[Callable[[], Float32[np.ndarray, "B L P C"]]]
    tokens: Mapping[str, Callable[[], Float16[np.ndarray, "B gd gh gw C"]]]


class BatchEncoder:
    """An encoder on a device, with what is kept of its output.

    channels: of a preprocessed volume.
    batch_size: volumes a forward at most; where the device compiles for each shape, short batches are padded to it.
    It shrinks where the device turns out too small for it (submit_fitting).
    compiled: whether torch.compile is used; see extract.device.compiled.
    Raises UsageError on unknown layers or pools, or a grid that does not divide the encoder's.
    """

    def __init__(
        self,
        encoder: Encoder,
        backend: Backend,
        *,
        layers: Sequence[str] = (LAST,),
        pools: Sequence[str] = ("mean",),
        token_grid: Grid | None = None,
        channels: int = 1,
        batch_size: int = 1,
        compiled: CompileMode = "off",
    ) -> None:
        self.layers = encoder.architecture.require_layers(layers)
        self.pools = require_pools(pools)
        if CLS in pools and not encoder.architecture.prefix:
            raise UsageError(
                f"--pool cls: {encoder.source} ({encoder.architecture.family}) has no class token; choose another pool"
            )
        if token_grid is not None:
            require_division(encoder.architecture.grid, token_grid)
        self._architecture = encoder.architecture
        self._backend = backend
        self._module = compiled_forward(backend.prepare(encoder.module), backend, compiled)
        self._token_grid = token_grid
        self._channels = channels
        self.batch_size = batch_size
        self._lock = Lock()
        self.volumes, self.seconds = 0, 0.0
        """How many were encoded, and how long somebody waited for that; on an accelerator the first batch, for which
        programs are compiled and memory is taken, counts for neither."""
        self._warm = backend.name == "cpu"

    def encode(self, batch: Volumes) -> EncodedBatch:
        """Encode 1 to batch_size volumes, each with V - 1 augmented views of it behind it."""
        return self.collect(self.submit(batch))

    def submit(self, batch: Volumes) -> SubmittedBatch:
        """Start to encode 1 to batch_size volumes; on an accelerator this returns before they are done.

        Submit a batch before collecting the one before it, and the device computes while the host reads and writes.
        Keep the volumes until the batch is collected. Of views the pooled vectors are kept, and no tokens.
        """
        self._require_size(len(batch))
        with self._timed(0):
            return self._submit(batch)

    def _submit(self, batch: Volumes) -> SubmittedBatch:
        step, send = self._channels, self._backend.send
        views = [[image[at : at + step] for image in batch] for at in range(0, len(batch[0]), step)]
        pooled, tokens = self._forward(views[0], self._token_grid)
        vectors = [send(pooled)]
        grids = {layer: send(grid) for layer, grid in tokens.items()}
        vectors += [send(self._forward(view, None)[0]) for view in views[1:]]
        return SubmittedBatch(len(batch), vectors, grids)

    def submit_fitting(self, batch: Volumes) -> Iterator[SubmittedBatch]:
        """Do the same in as many parts as the device's memory asks for; from then on ``batch_size`` is that of a part.

        Raises DeviceError where one volume is too much, or where the device compiles for each shape: there the whole
        run needs another size.
        """
        while len(batch):
            part = batch[: self.batch_size]
            try:
                submitted = self.submit(part)
            except RuntimeError as error:
                self._shrink(len(part), error)
            else:
                yield submitted
                batch = batch[len(part) :]
                continue
            # Outside of the except block: the error holds on to what the forward had allocated.
            self._backend.forget_freed()

    def collect(self, submitted: SubmittedBatch) -> EncodedBatch:
        """Wait for a submitted batch, and check what came of each volume.

        Raises DeviceError where a device that computes late finds only now that the batch does not fit.
        """
        try:
            with self._timed(submitted.count):
                seen = [wait()[: submitted.count] for wait in submitted.pooled]
                vectors = seen[0] if len(seen) == 1 else np.concatenate(seen, axis=2)
                tokens = {name: wait()[: submitted.count] for name, wait in submitted.tokens.items()}
        except RuntimeError as error:
            self._shrink(submitted.count, error)
            raise
        return EncodedBatch(vectors, tokens, _failures(vectors, tokens))

    def tokens(self, batch: Float32[np.ndarray, "b channels D H W"]) -> Float32[np.ndarray, "b N C"]:
        """Give all patch tokens of the last layer."""
        return self.all_tokens(batch)[0]

    def all_tokens(
        self, batch: Float32[np.ndarray, "b channels D H W"]
    ) -> tuple[Float32[np.ndarray, "b N C"], Float32[np.ndarray, "b P C"] | None]:
        """Give the patch tokens of the last layer, and its prefix tokens where there are any."""
        self._require_size(len(batch))
        with torch.no_grad():
            found = self._module(self._place(list(batch)), (LAST,))
        kept = [found[name].to(torch.float32) for name in (LAST, prefix_of(LAST)) if name in found]
        self._backend.launch()
        tokens, *prefix = [self._backend.to_host(one)[: len(batch)] for one in kept]
        return tokens, next(iter(prefix), None)

    @contextmanager
    def _timed(self, volumes: int) -> Iterator[None]:
        """Count volumes that came out, and the time of the block; a block that fails counts nothing."""
        begun = perf_counter()
        yield
        with self._lock:
            if self._warm:
                self.volumes += volumes
                self.seconds += perf_counter() - begun
            self._warm = self._warm or volumes > 0

    def _require_size(self, volumes: int) -> None:
        if not 1 <= volumes <= self.batch_size:
            raise UsageError(f"batch: expected 1 to {self.batch_size} volumes, got {volumes}")

    def _place(self, batch: Sequence[np.ndarray]) -> Tensor:
        missing = self.batch_size - len(batch)
        if self._backend.static_shapes and missing:
            return self._backend.place([*batch, *[np.zeros_like(batch[0])] * missing])
        return self._backend.place(batch)

    def _shrink(self, volumes: int, error: RuntimeError) -> None:
        """Halve a batch that did not fit. Raises DeviceError where that is no way out, and any other error again.

        Inputs of one shape, all finite, give an accelerator no reason to fail but its own: that ends the run.
        """
        half, name = volumes // 2, self._backend.name
        if not self._backend.is_out_of_memory(error):
            if name == "cpu":
                raise error
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise DeviceError(
                f"device {name}: a forward of {volumes} volumes failed with {type(error).__name__}: {reason}; rows "
                "that were committed are kept: see to the device, and run the same command again"
            ) from error
        if self._backend.static_shapes and self.batch_size > 1:
            raise DeviceError(
                f"device {name}: a batch of {self.batch_size} volumes does not fit its memory; "
                f"run again with --batch-size {self.batch_size // 2}"
            )
        if not half:
            raise DeviceError(
                f"device {name}: not even one volume fits its memory; expected a device with more, --precision bf16 or "
                "a smaller encoder, or that no other process uses it"
            )
        self.batch_size = half
        say(f"device {name}: a batch of {volumes} volumes does not fit its memory; going on with {half}")

    def _forward(
        self, batch: Sequence[Float32[np.ndarray, "channels D H W"]], token_grid: Grid | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            reduced = self._reduced(self._place(batch), token_grid)
        self._backend.launch()
        return reduced

    def _reduced(self, volumes: Tensor, token_grid: Grid | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Keep no reference to whole tokens: a lazy device would have to give them out too."""
        found = self._module(volumes, self.layers)
        pooled = torch.stack(
            [pool(found[layer], self.pools, self._leading(found, layer)) for layer in self.layers], dim=1
        )
        return pooled, {} if token_grid is None else self._grids(found, token_grid)

    def _leading(self, found: Mapping[str, Tensor], layer: str) -> Tensor | None:
        """Give the class (or global) token of the volume, or of each of its slices."""
        prefix = found.get(prefix_of(layer))
        return None if prefix is None else prefix[:, :: self._architecture.prefix]

    def _grids(self, found: Mapping[str, Tensor], target: Grid) -> dict[str, Tensor]:
        own = self._architecture.grid
        return {layer: reduce_tokens(found[layer], own, target).to(torch.float16) for layer in self.layers}


def build_space(
    encoder: Encoder,
    preset: Mapping[str, Any],
    *,
    layers: Sequence[str],
    pools: Sequence[str],
    token_grid: Grid | None,
    precision: str,
    token_dtype: str = "float16",  # noqa: S107 - a type of numbers, no secret
    views: Views | None = None,
) -> EmbeddingSpace:
    """Name the embedding space that an encoder, a preset and what is kept make together."""
    architecture = encoder.architecture
    return EmbeddingSpace(
        family=architecture.family,
        weights_sha256=encoder.weights_sha256,
        image_size=architecture.image_size,
        patch=architecture.patch,
        width=architecture.width,
        depth=architecture.depth,
        heads=architecture.heads,
        preset=preset,
        layers=architecture.require_layers(layers),
        pools=views.name_pools(require_pools(pools)) if views else require_pools(pools),
        token_grid=token_grid,
        precision=precision,
        token_dtype=token_dtype,
        views=views.to_dict() if views else None,
    )


def _failures(vectors: np.ndarray, tokens: Mapping[str, np.ndarray]) -> dict[int, EncodeError]:
    found: dict[int, EncodeError] = {}
    for layer, grids in tokens.items():
        for index in _not_finite(grids):
            found[index] = TokenOverflow(f"tokens of layer {layer} exceed float16 (65504): store none (--tokens none)")
    for index in _not_finite(vectors):
        found[index] = NotFinite("pooled vectors are not finite: the precision overflows; use --precision fp32")
    return found


def _not_finite(arrays: np.ndarray) -> list[int]:
    return [index for index, array in enumerate(arrays) if not all_finite(array)]
