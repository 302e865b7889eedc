"""DICOM: a multi-frame file, the parts of a concatenation, or a series of one frame a file."""

from collections.abc import Sequence

from extract.dicom.geometry import read_eye, read_spacing
from extract.dicom.header import FileBytes, quiet_pydicom, read_header
from extract.dicom.reader import read_dicom
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.one_file import require_number
from extract.volume import Volume


class Dicom:
    """Reads DICOM; which files are one volume, the folder or the series says."""

    name = "DICOM"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the mark at byte 128; by the name where no other kind's mark is there either."""
        return head[128:132] == b"DICM" or (name.casefold().endswith((".dcm", ".dicom")) and not head.strip(b"\0"))

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name no further file."""
        return ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume, by the header of the first file."""
        header = read_header(files[0].data, request.source)
        with quiet_pydicom():
            eye, (spacing, _) = read_eye(header.elements), read_spacing(header.elements)
        return [Inside(eye=eye, spacing_mm=spacing)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the frames that are asked for."""
        require_number(number, 1, request)
        data = [file.data for file in files]
        return read_dicom(data, ref=request.ref, frames=request.frames, decode=request.decode, allowed=request.allowed)
