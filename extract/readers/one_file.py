"""What readers of one file with one volume share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from extract.dicom.header import FileBytes
from extract.errors import RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.stack import Stack, to_volume
from extract.volume import Volume


class OneFile(ABC):
    """A reader whose scans are one file each, with one volume."""

    name: str

    @abstractmethod
    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the first bytes, or by the name, whether a file is of this kind."""

    @abstractmethod
    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Check the file, and say how its frames are read. Raises: ScanError."""

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name no further file."""
        return ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume; its eye and spacing come with it."""
        stack = self.stack(only(files, self.name, request), request)
        return [Inside(eye=stack.eye, spacing_mm=stack.spacing_mm)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the one volume."""
        require_number(number, 1, request)
        return to_volume(self.stack(only(files, self.name, request), request), request)


def only(files: Sequence[ScanFile], kind: str, request: Request) -> ScanFile:
    """Give the one file of a scan. Raises: RefusedScan."""
    if len(files) != 1:
        raise RefusedScan(f"{request.source}: a {kind} is one scan alone, got {len(files)} files under one name")
    return files[0]


def require_number(number: int | None, count: int, request: Request) -> int:
    """Give the number, from 0, of a volume; None: the only one. Raises: RefusedScan where it is not there."""
    if number is None and count > 1:
        raise RefusedScan(
            f"{request.source}: the file holds {count} volumes, and none was named: write file#1 to file#{count} in "
            "the table of scans, as survey does"
        )
    number = number or 0
    if not 0 <= number < count:
        raise RefusedScan(f"{request.source}: expected one of {count} volumes in the file, got number {number + 1}")
    return number
