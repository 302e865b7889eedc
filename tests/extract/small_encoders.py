"""A small encoder of each family, with random weights."""

from extract.encoder.architecture import Architecture
from extract.encoder.encoder import Encoder
from extract.encoder.families import FAMILIES
from extract.encoder.random_init import PREFIX, random_twin


def small_encoder_of(family: str, depth: int = 2) -> Encoder:
    """Width 48; slices of 32 x 32 in patches of 16, volumes of 4 x 32 x 32 in patches of 2 x 16 x 16."""
    kind = FAMILIES[family]
    patch = (1 if kind.slices else 2, 16, 16)
    prefix = sum(count for name, count in PREFIX.items() if name in kind.extra)
    return random_twin(Architecture(family, (4, 32, 32), patch, 48, depth, 3, 192, prefix), 0, family)
