"""The decoders of compressed DICOM, and the versions of everything that computes."""

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from embeddings_store.terminal.provenance import code_commit, package_versions
from extract.dicom.frame_decoder import COMPRESSED, decoder_name
from extract.doctor.report import Check, Report, Status
from extract.worker import PACKAGES

SYNTAXES: dict[str, UID] = {
    "implicit VR": ImplicitVRLittleEndian,
    "explicit VR": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    **COMPRESSED,
}
"""What buckets of this kind hold (source: DATA.md, section 4)."""


def examine_decoders() -> tuple[Report, None]:
    """Name the decoder of every transfer syntax; a volume in another becomes an error row."""
    check = Check("decoders", Status.OK, f"all {len(SYNTAXES)} transfer syntaxes can be read")
    decoders = {name: [decoder_name(syntax) or "none needed"] for name, syntax in SYNTAXES.items()}
    return Report((check,), {"decoders": decoders}), None


def examine_versions() -> tuple[Report, None]:
    """Tell the versions, and the commit of the code where there is one."""
    versions, commit = package_versions(PACKAGES), code_commit()
    words = ", ".join(f"{name} {versions[name]}" for name in ("octprobe", "python", "torch", "pydicom", "zarr"))
    figures = {"versions": versions, **({"commit": commit} if commit else {})}
    absent = {} if commit else {"commit": "this is an installed package, not a source checkout"}
    return Report((Check("versions", Status.OK, words),), figures, absent), None
