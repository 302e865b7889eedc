"""How many threads each stage gets, chosen from the machine where the user does not say."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from embeddings_store.machine import usable_cores, usable_memory_bytes
from extract.device.backend import Backend
from extract.device.fitting import forward_bytes
from extract.options import ExtractOptions
from extract.targets import OpenedEncoder

WRITERS_LOCAL = 2  # one writes while the other sums; a disk gains nothing from more
WRITERS_S3 = 8  # each waits for its own requests
SMALLEST_BUDGET_BYTES, LARGEST_BUDGET_BYTES = 1_000_000_000, 8_000_000_000
BUDGET_SHARE = 8  # of the memory that this process may use
FORWARD_SHARE = 2


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads by stage; a decoder does decode and preprocess, and has a process for compressed frames.

    forward_threads: of torch, inside each forward. budget_bytes: of raw and preprocessed volumes in flight.
    """

    fetch: int
    decode: int
    encode: int
    write: int
    forward_threads: int
    budget_bytes: int

    @property
    def volumes_in_flight(self) -> int:
        """How many volumes may be between the bucket and the encoder: enough that no stage waits without need."""
        return self.fetch + 2 * (self.decode + self.encode)

    def by_stage(self) -> dict[str, int]:
        """Give the number of threads of each stage."""
        return {"fetch": self.fetch, "decode": self.decode, "encode": self.encode, "write": self.write}

    def describe(self, batch_sizes: Sequence[int]) -> str:
        """Say it in one line."""
        batches = ", ".join(str(size) for size in batch_sizes)
        return (
            f"workers: {self.fetch} fetch, {self.decode} decode, {self.encode} encode "
            f"({self.forward_threads} torch threads each, batches of {batches}), {self.write} write; "
            f"at most {self.volumes_in_flight} volumes and {self.budget_bytes / 1e9:.1f} GB before the encoder"
        )


@dataclass(frozen=True, slots=True)
class Share:
    """What a process may use of its machine."""

    cores: int
    memory_bytes: int


def whole_machine() -> Share:
    """Give everything that this process may use."""
    return Share(usable_cores(), usable_memory_bytes())


def choose_workers(
    options: ExtractOptions, backend: Backend, encoders: Sequence[OpenedEncoder], share: Share
) -> Workers:
    """Choose by cores and memory: on the CPU a forward a core, as far as they fit; one stream of batches elsewhere.

    Forwards side by side use the cores better than one on all of them: no operator waits for its slowest part, and a
    decoder that takes a core away delays one forward, not all. The numbers of a row do not depend on the choice.
    """
    cores, memory = share.cores, share.memory_bytes
    encode = _forwards_at_once(backend, encoders, share) if backend.name == "cpu" else 1
    remote = any(output.store.startswith("s3://") for output in options.outputs)
    return Workers(
        fetch=options.streams,
        decode=options.decoders or cores,
        encode=encode,
        write=options.writers or (WRITERS_S3 if remote else WRITERS_LOCAL),
        forward_threads=min(torch.get_num_threads(), max(1, cores // encode)),
        budget_bytes=min(max(memory // BUDGET_SHARE, SMALLEST_BUDGET_BYTES), LARGEST_BUDGET_BYTES),
    )


def _forwards_at_once(backend: Backend, encoders: Sequence[OpenedEncoder], share: Share) -> int:
    """Give one to each core, or to as many cores as the user lets torch have, as far as the memory goes."""
    pinned = torch.get_num_threads()
    by_cores = share.cores // pinned if pinned < share.cores else share.cores
    sizes = [forward_bytes(one.encoder.architecture, backend.precision, len(one.batches.layers)) for one in encoders]
    largest = max(size * one.batches.batch_size for size, one in zip(sizes, encoders, strict=True))
    return max(1, min(by_cores, share.memory_bytes // FORWARD_SHARE // largest))
