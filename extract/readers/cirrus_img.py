"""Zeiss Cirrus research export (.img): bare bytes, B-scan after B-scan, each lying on its head and mirrored.

The name tells the size (`512x128`: A-scans x B-scans) and the eye; 1024 samples an A-scan. Sources: the readers of
ashkan-abbasi66/oct-preprocess-cirrus and others agree on [B-scans, 1024, A-scans] with the last two axes reversed;
oct-converter 0.7 reads another order, which cuts such a B-scan into stripes. Cubes are 6 x 6 x 2 mm.
"""

import re
from typing import Final

import numpy as np

from extract.errors import DamagedScan
from extract.readers.contract import Request, ScanFile
from extract.readers.names import eye_in_name
from extract.readers.one_file import OneFile
from extract.readers.stack import Stack, require_size, stack_of

SIZE: Final = re.compile(r"(?<![0-9])([0-9]{1,4})x([0-9]{1,4})(?![0-9])")
DEPTH: Final = 1024
KNOWN: Final = ((512, 128), (200, 200))
WIDTH_MM, DEPTH_MM = 6.0, 2.0


class CirrusImg(OneFile):
    """Reads cubes; a cube whose name tells no size has to be one of the two usual ones."""

    name = "Zeiss Cirrus .img"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the name alone: the file has no mark."""
        return name.casefold().endswith(".img") and bool(head)

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Check the size, and turn the B-scans upright."""
        told = SIZE.search(file.base)
        sizes = [(int(told[1]), int(told[2]))] if told else list(KNOWN)
        found = [(columns, frames) for columns, frames in sizes if columns * frames * DEPTH == len(file.data)]
        if not found:
            words = " or ".join(f"{columns} x {frames} A-scans of {DEPTH} bytes" for columns, frames in sizes)
            raise DamagedScan(f"{request.source}: expected a Cirrus cube of {words}, got {len(file.data):,} bytes")
        ((columns, frames),) = found
        require_size((frames, DEPTH, columns), request.source)
        cube = np.frombuffer(file.data, np.uint8).reshape(frames, DEPTH, columns)[:, ::-1, ::-1]
        spacing = (WIDTH_MM / frames, DEPTH_MM / DEPTH, WIDTH_MM / columns)
        return stack_of(cube, spacing_mm=spacing, eye=eye_in_name(file.name))
