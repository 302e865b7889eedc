"""The decoders of compressed DICOM, and the versions of everything that computes."""

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from embeddings_store.provenance import code_commit, package_versions
from extract.dicom.frame_decoder import decoder_name, missing_decoder
from extract.doctor.report import Check, Report, Status
from extract.worker import PACKAGES

SYNTAXES: dict[str, UID] = {
    "implicit VR": ImplicitVRLittleEndian,
    "explicit VR": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG": JPEGBaseline8Bit,
    "JPEG extended": JPEGExtended12Bit,
    "JPEG lossless": JPEGLossless,
    "JPEG lossless SV1": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG-LS near-lossless": JPEGLSNearLossless,
    "JPEG 2000 lossless": JPEG2000Lossless,
    "JPEG 2000": JPEG2000,
    "HTJ2K lossless": HTJ2KLossless,
    "HTJ2K lossless RPCL": HTJ2KLosslessRPCL,
    "HTJ2K": HTJ2K,
}
"""What buckets of this kind hold (source: DATA.md, section 4)."""


def examine_decoders() -> tuple[Report, None]:
    """Look for the decoder of every transfer syntax; a volume in one without becomes an error row."""
    compressed = {name: syntax for name, syntax in SYNTAXES.items() if syntax.is_encapsulated}
    missing = {name: needs for name, syntax in compressed.items() if (needs := missing_decoder(syntax))}
    if missing:
        reasons = ", ".join(f"{name} (needs {needs})" for name, needs in missing.items())
        check = Check("decoders", Status.WARN, f"no decoder for {reasons}: such volumes would become error rows")
    else:
        check = Check("decoders", Status.OK, f"all {len(SYNTAXES)} transfer syntaxes can be read")
    decoders = {
        name: [] if name in missing else [decoder_name(syntax) or "none needed"] for name, syntax in SYNTAXES.items()
    }
    return Report((check,), {"decoders": decoders}), None


def examine_versions() -> tuple[Report, None]:
    """Tell the versions, and the commit of the code where there is one."""
    versions, commit = package_versions(PACKAGES), code_commit()
    words = ", ".join(f"{name} {versions[name]}" for name in ("octprobe", "python", "torch", "pydicom", "zarr"))
    figures = {"versions": versions, **({"commit": commit} if commit else {})}
    absent = {} if commit else {"commit": "this is an installed package, not a source checkout"}
    return Report((Check("versions", Status.OK, words),), figures, absent), None
