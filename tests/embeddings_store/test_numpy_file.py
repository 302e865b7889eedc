"""NumPy's files are read whole, also where the interpreter slips, and nothing of them is unpickled."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy_format

from embeddings_store import numpy_file
from embeddings_store.numpy_file import read_header, read_numpy

NUMBERS = np.arange(6.0).reshape(2, 3)
READS = {name: getattr(numpy_file, name) for name in ("_load", "_header")}


def slip(monkeypatch: pytest.MonkeyPatch, faults: int) -> None:
    """Let a read fail so often, in the middle of the file, as with two threads (cpython issue 106905)."""
    for name, read in READS.items():
        left = [faults]

        def slipping(stream: Any, read: Any = read, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] >= 0:
                stream.read(10)
                raise SystemError("AST constructor recursion depth mismatch")
            return read(stream)

        monkeypatch.setattr(numpy_file, name, slipping)


def test_a_slip_of_the_interpreter_costs_a_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, several, body = tmp_path / "a.npy", tmp_path / "a.npz", BytesIO()
    np.save(alone, NUMBERS)
    np.savez(several, one=NUMBERS, two=NUMBERS + 1)
    np.save(body, NUMBERS)
    for faults in (0, 1):
        slip(monkeypatch, faults)
        assert (read_numpy(alone) == NUMBERS).all()
        slip(monkeypatch, faults)
        found = read_numpy(several)
        assert sorted(found) == ["one", "two"] and (found["two"] == NUMBERS + 1).all()
        slip(monkeypatch, faults)
        body.seek(0)
        assert read_header(body) == ((2, 3), False, np.float64)
        assert len(body.read()) == NUMBERS.nbytes
    for twice in (lambda: read_numpy(alone), lambda: read_header(BytesIO(alone.read_bytes()))):
        slip(monkeypatch, 2)
        with pytest.raises(SystemError, match="mismatch"):
            twice()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    for path, save in ((tmp_path / "a.npy", np.save), (tmp_path / "a.npz", np.savez)):
        save(path, np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match="allow_pickle=False"):
            read_numpy(path)


def test_a_header_of_another_kind_is_refused() -> None:
    body, negative = BytesIO(), BytesIO()
    np.save(body, NUMBERS)
    with pytest.raises(ValueError, match=r"version \(3, 0\)"):
        read_header(BytesIO(body.getvalue().replace(b"NUMPY\x01", b"NUMPY\x03")))
    npy_format.write_array_header_1_0(negative, {"descr": "<f8", "fortran_order": False, "shape": (-2,)})
    negative.seek(0)
    with pytest.raises(ValueError, match="a negative length"):
        read_header(negative)
