"""What a file is of: a structural OCT volume, or another object (SOP class, Modality, ImageType)."""

from collections.abc import Collection
from typing import Final

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.uid import UID

from embeddings_store.schema import Kind, Note
from extract.dicom.geometry import read_text
from extract.dicom.header import read_uid
from extract.errors import NotStructuralOct

OPHTHALMIC: Final = "1.2.840.10008.5.1.4.1.1.77.1.5."
STRUCTURAL: Final = OPHTHALMIC + "4"
LEGACY: Final = frozenset(
    {OPHTHALMIC + "1", OPHTHALMIC + "2", "1.2.840.10008.5.1.4.1.1.7"}
    | {f"1.2.840.10008.5.1.4.1.1.7.{number}" for number in range(1, 5)}
)
"""Ophthalmic photography and secondary capture, in which some devices write structural OCT."""

OCT_MODALITIES: Final = frozenset({"OPT", "OCT"})
OTHER_OCT_MODALITIES: Final = frozenset({"OPTBSV", "OPTENF"})
FLOW_WORDS: Final = ("ANGIO", "OCTA", "FLOW", "ENFACE", "EN FACE", "EN_FACE")
LONGEST: Final = 80
ANY_CLASS: Final = frozenset({"*"})
"""For those who read again what an extraction took."""


def check_kind(elements: Dataset, sop_class: str, allowed: Collection[str], source: str) -> tuple[Kind, Note]:
    """Say what an object is, and what is odd about that. sop_class: of the data set, else of the file meta group.

    allowed: UIDs of other classes that are meant. Raises: NotStructuralOct.
    """
    modality, words = (read_text(elements, name) for name in ("Modality", "ImageType"))
    kind = Kind(*(_printable(text) for text in (sop_class, modality, words)))
    note, reason = _judge(sop_class, modality, words)
    if not reason:
        return kind, note
    if "*" in allowed or sop_class in allowed:
        return kind, Note.KIND_ALLOWED
    raise NotStructuralOct(
        f"{source}: expected a structural OCT volume, got {_name(sop_class)} of modality {modality[:16] or '(none)'}"
        f"{reason}; --allow-sop-class {sop_class or 'UID'} takes such objects"
    )


def is_oct(elements: Dataset) -> bool:
    """Tell whether a data set says of itself that it is of a structural OCT scan."""
    return read_uid(elements, "SOPClassUID") == STRUCTURAL or read_text(elements, "Modality") in OCT_MODALITIES


def _judge(sop_class: str, modality: str, words: str) -> tuple[Note, str]:
    """Give a note, or the reason to refuse."""
    if modality in OTHER_OCT_MODALITIES:
        return Note.NONE, " (flow or en face)"
    if sop_class == STRUCTURAL:
        if any(word in words for word in FLOW_WORDS):
            return Note.NONE, " (its ImageType names flow or en face)"
        return (Note.NONE if modality in {"", *OCT_MODALITIES} else Note.KIND_UNKNOWN), ""
    if sop_class in LEGACY and modality in OCT_MODALITIES:
        return (Note.KIND_LEGACY, "") if not any(word in words for word in FLOW_WORDS) else (Note.NONE, " (flow)")
    if UID(sop_class, validation_mode=IGNORE).type != "SOP Class":
        return Note.KIND_UNKNOWN, ""
    return Note.NONE, " (another kind of object)"


def _printable(text: str) -> str:
    """Cut what no code string or UID holds: a row takes no free text along."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)[:LONGEST]


def _name(sop_class: str) -> str:
    uid = UID(sop_class, validation_mode=IGNORE)
    return f"{uid.name} ({uid})" if uid.type else "an unknown SOP class"
