"""Results taken one step late: the same results."""

import numpy as np
import torch

from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.encoder.random_init import random_encoder

BATCHES = [np.random.default_rng(n).normal(size=(n, 1, 16, 64, 64)).astype(np.float32) for n in (2, 2, 1)]


class LazyCpu(CpuBackend):
    """A CPU that says when a batch was sent, its program cut and a result read, as a lazy device would see it."""

    static_shapes = True

    def __init__(self) -> None:
        super().__init__("fp32")
        self.seen: list[str] = []

    def place(self, batch: np.ndarray) -> torch.Tensor:
        self.seen.append("place")
        return super().place(batch)

    def launch(self) -> None:
        self.seen.append("launch")

    def to_host(self, tensor: torch.Tensor) -> np.ndarray:
        self.seen.append("read")
        return super().to_host(tensor)


def new_encoder(backend: CpuBackend) -> BatchEncoder:
    return BatchEncoder(
        random_encoder("random:tiny", (16, 64, 64)),
        backend,
        pools=("mean", "std"),
        layers=("1", "last"),
        token_grid=(4, 4, 4),
        batch_size=2,
    )


def test_collecting_late_gives_what_encoding_gives() -> None:
    encoder = new_encoder(CpuBackend("fp32"))
    submitted = [encoder.submit(batch) for batch in BATCHES]
    for batch, late in zip(BATCHES, map(encoder.collect, submitted), strict=True):
        now = encoder.encode(batch)
        np.testing.assert_array_equal(late.pooled, now.pooled)
        assert late.tokens.keys() == now.tokens.keys() == {"1", "last"}
        for layer, grids in now.tokens.items():
            np.testing.assert_array_equal(late.tokens[layer], grids)


def test_a_padded_batch_keeps_its_count_until_it_is_collected() -> None:
    encoder = new_encoder(LazyCpu())
    submitted = encoder.submit(BATCHES[-1])
    assert (submitted.count, len(submitted.pooled[0]())) == (1, 2)
    assert len(encoder.collect(submitted).pooled) == 1


def test_one_batch_is_one_program_that_is_launched_before_anything_is_read() -> None:
    backend = LazyCpu()
    encoder = new_encoder(backend)
    encoder.submit(BATCHES[0])
    assert backend.seen == ["place", "launch"]
    encoder.encode(BATCHES[1])
    encoder.tokens(BATCHES[1])
    assert backend.seen == ["place", "launch"] * 2 + ["read"] * 3 + ["place", "launch", "read"]
