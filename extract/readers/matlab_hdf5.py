"""MATLAB .mat files of version 7.3, which are HDF5, through h5py (extra `vendor`)."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, Final

from embeddings_store.extras import require
from extract.errors import DamagedScan, RefusedScan
from extract.readers.choice import choose_array
from extract.readers.contract import MOST_LABELS, Inside, Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.one_file import OneFile
from extract.readers.stack import Stack, arrange, require_size, stack_of

MAGIC: Final = b"MATLAB 7.3"
HDF5: Final = b"\x89HDF\r\n\x1a\n"
USER_BLOCK: Final = 512


class MatlabHdf5(OneFile):
    """Reads .mat of version 7.3 and plain HDF5. --axes names the axes as MATLAB's size() lists them, or HDF5's."""

    name = "MATLAB file (HDF5)"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by HDF5's mark, at the beginning or behind MATLAB's text."""
        return head.startswith(HDF5) or head[USER_BLOCK : USER_BLOCK + len(HDF5)] == HDF5

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Load the array, whose axes MATLAB stores in reverse."""
        source, matlab = request.source, file.head.startswith(MAGIC)
        h5py: Any = require("h5py", f"{source}: a file in HDF5", RefusedScan)
        with damage(source, "HDF5 file"), h5py.File(BytesIO(file.data), "r") as opened:
            arrays = {name: tuple(map(int, opened[name].shape)) for name in _datasets(opened, h5py)}
            if matlab:
                arrays = {name: shape[::-1] for name, shape in arrays.items()}
            name = choose_array(arrays, request, "HDF5 file")
            require_size(arrays[name], source)
            dataset = opened[name]
            _require_stored(dataset, source)
            array = dataset[()]
        if array.dtype.kind not in "buif":
            raise RefusedScan(f"{source}: expected whole or real numbers in the array {name[:40]!r}, got {array.dtype}")
        arranged, note = arrange(array.transpose() if matlab else array, request.options, source, ask=matlab)
        return stack_of(arranged, notes=note)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume, with the single numbers that lie with it."""
        (inside,) = super().volumes(files, request)  # raises where h5py is lacking
        import h5py

        with damage(request.source, "HDF5 file"), h5py.File(BytesIO(files[0].data), "r") as opened:
            single = [name for name in _datasets(opened, h5py) if opened[name].size == 1][:MOST_LABELS]
            plain = [name for name in single if opened[name].dtype.kind in "buif" and not opened[name].external]
            return [replace(inside, labels={name: float(opened[name][()].item()) for name in plain})]


def _datasets(opened: Any, h5py: Any) -> list[str]:
    """Name the datasets of the top level; links to other files are not followed."""
    names = [name for name in opened if isinstance(opened.get(name, getlink=True), h5py.HardLink)]
    return [name for name in names if isinstance(opened[name], h5py.Dataset)]


def _require_stored(dataset: Any, source: str) -> None:
    """Refuse what lies in another file, and chunks that were never written: HDF5 would make zeros of them."""
    if dataset.is_virtual or dataset.external:
        raise RefusedScan(f"{source}: the array lies in another file: save it as one file")
    if dataset.chunks is None:
        whole = dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize
    else:
        expected = 1
        for length, step in zip(dataset.shape, dataset.chunks, strict=True):
            expected *= -(-length // step)
        whole = dataset.id.get_num_chunks() == expected
    if not whole:
        raise DamagedScan(f"{source}: not all of the array is in the file")
