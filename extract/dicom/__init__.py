"""DICOM bytes -> Volume: an allow-list of tags, chosen frames only, and a named refusal for everything else."""

from extract.dicom.reader import read_dicom

__all__ = ["read_dicom"]
