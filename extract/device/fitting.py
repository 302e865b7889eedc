"""How many volumes go through a device at once, before anything was tried on it."""

from extract.device.backend import DTYPES, Backend, Precision
from extract.encoder.architecture import Architecture

FIXED_BATCH_SIZES = {"cpu": 1, "xla": 8}
"""On the CPU one volume keeps a core busy, and its row cannot depend on its neighbours. On a TPU the size is compiled
in: 8 full-size volumes take 2.2 GB of the 16 GB of a v5e chip (TPU compiler, bf16)."""

LARGEST_BATCH_SIZE = 32  # a GPU is busy long before; more would only make the first rows come later
USABLE_SHARE = 0.8
WIDTHS_HELD = 10
"""Of tokens, in the middle of a block: residual, norm, query, key, value, attention, projections, and room to spare."""


def starting_batch_size(backend: Backend, architecture: Architecture, layers: int) -> int:
    """Choose a size that should fit: by the memory that is free now, where the device tells; else a fixed one."""
    free = backend.free_memory_bytes()
    if free is None:
        return FIXED_BATCH_SIZES.get(backend.name, 1)
    fitting = int(USABLE_SHARE * free) // forward_bytes(architecture, backend.precision, layers)
    return max(1, min(LARGEST_BATCH_SIZE, fitting))


def forward_bytes(architecture: Architecture, precision: Precision, layers: int) -> int:
    """Estimate what one volume takes in a forward without gradients, weights not counted, ``layers`` of them kept."""
    numbers = architecture.width * (WIDTHS_HELD + layers) + 2 * architecture.mlp_width
    return architecture.token_count * numbers * DTYPES[precision].itemsize
