"""What every reader keeps to: files in, the volumes inside them named, one of them read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from embeddings_store.schema import Eye, VolumeRef
from extract.dicom.frame_decoder import FrameDecoder, decode_here
from extract.dicom.header import FileBytes
from extract.dicom.reader import FrameChooser
from extract.readers.read_options import ReadOptions
from extract.volume import Volume

MOST_LABELS: Final = 100
"""Of one file."""

HEAD_BYTES: Final = 4096
"""As much of a file as a reader needs to recognise it."""


@dataclass(frozen=True, slots=True)
class ScanFile:
    """One file of a scan. name: below the bucket, never shown as it is."""

    name: str
    data: FileBytes

    @property
    def head(self) -> bytes:
        """The bytes by which readers know a kind."""
        return bytes(self.data[:HEAD_BYTES])

    @property
    def base(self) -> str:
        """The name without its folder."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Request:
    """How a volume is read. source: a name that is safe to print. The others: as read_dicom takes them."""

    source: str = "file"
    ref: VolumeRef | None = None
    frames: FrameChooser | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    decode: FrameDecoder = decode_here
    allowed: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Inside:
    """One volume inside a file. label: "" where it is the only one. labels: numbers and words stored with it."""

    label: str = ""
    eye: Eye = Eye.UNKNOWN
    spacing_mm: tuple[float, float, float] | None = None
    labels: Mapping[str, float | str] = field(default_factory=dict)


@runtime_checkable
class Reader(Protocol):
    """Reads one kind of file. Files of a scan come in any order; what is refused is refused with a ScanError."""

    @property
    def name(self) -> str:
        """The kind, for people."""
        ...

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the first bytes, or by the name where a kind has no mark, whether a file is of this kind."""
        ...

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name the further files, below the folder of this one, without which it cannot be read."""
        ...

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the volumes inside, without reading them where that can be helped."""
        ...

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the volume of this number, from 0; None: the only one."""
        ...
