"""The encoders that can be named: a file and a line for each."""

from extract.encoder.families.dinov2 import DINOV2
from extract.encoder.families.dinov2_registers import DINOV2_REGISTERS
from extract.encoder.families.dinov3 import DINOV3
from extract.encoder.families.mirage import MIRAGE
from extract.encoder.families.octcube import OCTCUBE
from extract.encoder.families.retfound import RETFOUND
from extract.encoder.families.siglip import SIGLIP
from extract.encoder.families.visionfm import VISIONFM
from extract.encoder.families.vjepa1 import VJEPA1
from extract.encoder.families.vjepa2 import VJEPA2
from extract.encoder.families.vjepa3d import VJEPA3D
from extract.encoder.families.vjepa21 import VJEPA21
from extract.encoder.family import Family

FAMILIES: dict[str, Family] = {
    "vjepa3d": VJEPA3D,
    "vjepa1": VJEPA1,
    "vjepa2": VJEPA2,
    "vjepa21": VJEPA21,
    "retfound": RETFOUND,
    "octcube": OCTCUBE,
    "dinov2": DINOV2,
    "dinov2_registers": DINOV2_REGISTERS,
    "mirage": MIRAGE,
    "visionfm": VISIONFM,
    "dinov3": DINOV3,
    "siglip": SIGLIP,
}

OWN_FAMILIES: dict[str, Family] = {}
"""Those that users' own files have described in this process; no file is recognised as one of them."""


def find_family(name: str) -> Family | None:
    """Give the family of this name, a user's own among them; None where there is none."""
    return FAMILIES.get(name) or OWN_FAMILIES.get(name)
