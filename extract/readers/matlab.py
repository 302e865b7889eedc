"""MATLAB .mat files of versions 5 to 7, through SciPy: only the one array is loaded, and only if it is numeric."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, Final, cast

import numpy as np

from extract.errors import DamagedScan, RefusedScan
from extract.readers.choice import choose_array
from extract.readers.contract import MOST_LABELS, Inside, Request, ScanFile
from extract.readers.foreign import damage, quiet
from extract.readers.one_file import OneFile
from extract.readers.stack import Stack, arrange, require_size, stack_of

MAGIC: Final = b"MATLAB 5.0"
NUMERIC: Final = {
    *("double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


class Matlab(OneFile):
    """Reads .mat. --axes names the axes as MATLAB's size() lists them."""

    name = "MATLAB file"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the text that begins the file."""
        return head.startswith(MAGIC) and head[126:128] in {b"IM", b"MI"}

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Load the array."""
        from scipy.io import loadmat, whosmat
        from scipy.io.matlab import MatReadError, MatReadWarning

        source, stream = request.source, cast("Any", BytesIO(file.data))
        with damage(source, "MATLAB file", MatReadError, MatReadWarning), quiet():
            found = whosmat(stream)
        arrays = {name: tuple(map(int, shape)) for name, shape, kind in found if kind in NUMERIC}
        name = choose_array(arrays, request, "MATLAB file")
        require_size(arrays[name], source)
        with damage(source, "MATLAB file", MatReadError, MatReadWarning), quiet():
            array = loadmat(stream, variable_names=[name])[name]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
            raise RefusedScan(f"{source}: expected whole or real numbers in the array {name!r}")
        if array.shape != arrays[name]:
            raise DamagedScan(f"{source}: the MATLAB file contradicts itself over the shape of {name!r}")
        arranged, note = arrange(array, request.options, source, ask=True)
        return stack_of(arranged, notes=note)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume, with the single numbers that lie with it."""
        from scipy.io import loadmat, whosmat
        from scipy.io.matlab import MatReadError, MatReadWarning

        (inside,), data = super().volumes(files, request), files[0].data
        stream: Any = BytesIO(data)  # the stubs know paths only
        with damage(request.source, "MATLAB file", MatReadError, MatReadWarning), quiet():
            found = whosmat(stream)
            single = [name for name, shape, kind in found if kind in NUMERIC and set(shape) <= {1}][:MOST_LABELS]
            loaded = loadmat(stream, variable_names=single) if single else {}
            return [replace(inside, labels={name: float(loaded[name].item()) for name in single})]
