"""How much a benchmark may do."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """quick: small sizes and one round, to try the benchmark itself. full: full sizes, minutes a row.

    scratch: an existing folder for files, emptied afterwards. threads: of BLAS, OpenMP and torch, on both sides.
    """

    scratch: str
    threads: int = 1
    quick: bool = False
    full: bool = False

    @property
    def folder(self) -> Path:
        return Path(self.scratch)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pinned_environment(threads: int) -> dict[str, str]:
    """Give this process' environment with every numerical library at the same number of threads.

    It has to be there before the first import, so each benchmark runs in a process of its own.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONHASHSEED": "0"}
