"""The part of the error tree that belongs to reading, fetching and encoding.

::

    RunError
    ├── BucketError          credentials, a bucket, an endpoint or a listing that cannot be used
    ├── CheckpointError      the encoder's weights are refused
    └── DeviceError          the accelerator is missing or cannot do what was asked
    VolumeError
    ├── FetchError           fetch: the object is gone, changed, or breaks off again and again
    ├── ScanError            decode: the bytes are no usable volume, whatever their kind
    │   ├── UnknownScan          no reader knows the kind of file
    │   ├── DamagedScan          the file breaks off or contradicts itself, or its library says so
    │   └── RefusedScan          a sound file that is not taken: four axes, two sizes, an animation, pickled objects ...
    ├── DicomError           a ScanError of DICOM files, and of what every kind has in common
    │   ├── NotDicom             no DICOM file, or a header that cannot be read
    │   ├── NoPixelData          a DICOM file without PixelData
    │   ├── ShortPixelData       PixelData breaks off
    │   ├── NotAVolume           one image: rows would be taken for depth
    │   ├── NotStructuralOct     another kind of object: flow, en face, photographs, CT ...
    │   ├── IncompleteConcatenation  a volume in several files that are not all there, or do not fit together
    │   ├── PartOfVolume         no failure: the volume's row belongs to the first of its parts
    │   ├── UnsupportedColour    more than one sample a pixel
    │   ├── UnsupportedSyntax    a transfer syntax without a decoder; the message names its UID
    │   ├── UndecodablePixels    the decoder, or a contradiction in the header, says no
    │   ├── TooLarge             the header claims more voxels than any scan has
    │   ├── DecodeTimeout        a decoder took far too long for a frame, and was ended
    │   └── DecoderCrash         a decoder's process died over a frame
    ├── PreprocessError      preprocess: the preset cannot be applied to this volume
    └── EncodeError          encode: the encoder's output cannot be kept
        ├── NotFinite            pooled vectors hold NaN or infinity
        └── TokenOverflow        tokens exceed float16

The names of the leaves are the error classes of error rows, so they never change.
"""

from collections.abc import Iterator
from typing import Final

from embeddings_store.errors import RunError, VolumeError
from embeddings_store.schema import VolumeId


class BucketError(RunError):
    """The bucket cannot be read: credentials, name, endpoint, or nothing recognised in it."""


class CheckpointError(RunError):
    """A checkpoint is refused."""


class DeviceError(RunError):
    """The device that was asked for cannot be used."""


class FetchError(VolumeError):
    """One object could not be fetched whole and unchanged."""

    stage = "fetch"


class ScanError(VolumeError):
    """The bytes of one scan are no usable volume."""

    stage = "decode"


class UnknownScan(ScanError):  # noqa: N818 - as below
    """No reader knows the kind of file."""


class DamagedScan(ScanError):  # noqa: N818
    """The file breaks off or contradicts itself."""


class RefusedScan(ScanError):  # noqa: N818
    """A sound file that is not taken, with the reason."""


class DicomError(ScanError):
    """The bytes of one object are no usable volume."""


class NotDicom(DicomError):  # noqa: N818 - an error class of the rows, see the tree above
    """Not a DICOM file, or its header cannot be read."""


class NoPixelData(DicomError):  # noqa: N818
    """The file ends without a PixelData element."""


class ShortPixelData(DicomError):  # noqa: N818
    """Fewer pixel bytes or frames than the header declares."""


class NotAVolume(DicomError):  # noqa: N818
    """A single image, or one frame."""


class NotStructuralOct(DicomError):  # noqa: N818
    """A recognised object that is no structural OCT volume."""


class IncompleteConcatenation(DicomError):  # noqa: N818
    """Parts of a volume in several files (a concatenation): some are missing, or they contradict one another."""


class PartOfVolume(DicomError):  # noqa: N818
    """Not a failure: this object is a part of the volume ``whole``, whose row belongs to its first part."""

    def __init__(self, message: str, whole: VolumeId) -> None:
        super().__init__(message)
        self.whole = whole


class UnsupportedColour(DicomError):  # noqa: N818
    """More than one sample a pixel, or a palette."""


class UnsupportedSyntax(DicomError):  # noqa: N818
    """No decoder for the transfer syntax."""


class UndecodablePixels(DicomError):  # noqa: N818
    """The pixel data contradict the header or their decoder."""


class TooLarge(DicomError):  # noqa: N818
    """More voxels claimed than the reader would ever allocate."""


class DecodeTimeout(DicomError):  # noqa: N818
    """A decoder took far too long for a frame, and was ended."""


class DecoderCrash(DicomError):  # noqa: N818
    """A decoder's process died over a frame."""


class PreprocessError(VolumeError):
    """The preset cannot be applied to this volume."""

    stage = "preprocess"


class EncodeError(VolumeError):
    """What the encoder made of a volume cannot be kept."""

    stage = "encode"


class NotFinite(EncodeError):  # noqa: N818
    """Pooled vectors hold NaN or infinity."""


class TokenOverflow(EncodeError):  # noqa: N818
    """Tokens exceed the largest float16."""


TRANSIENT: Final = frozenset({FetchError.__name__, MemoryError.__name__})
"""Classes whose cause lies outside the object: the same bytes may well become a row at the next try.

DecodeTimeout and DecoderCrash are none of them: a file that hangs or kills a decoder does so again.
"""


def error_classes(root: type[VolumeError] = VolumeError) -> Iterator[str]:
    """Name every class that an error row may have, as far as the house defines them; an unexpected one has its own."""
    for kind in root.__subclasses__():
        yield kind.__name__
        yield from error_classes(kind)
