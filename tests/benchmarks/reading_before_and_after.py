"""Is reading as fast as at an earlier commit? Both codes read the same files in turn, and make the encoder's input.

Prints, for each kind of file, the medians of the CPU seconds and the ratio before / now: above 1, the code of now is
faster. The earlier code is checked out into a temporary worktree; each code runs in a process of its own, all the time.

    export PYTHONPATH=.:tests:tests/extract OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
    python tests/benchmarks/reading_before_and_after.py a5b6c90 [--rounds 9] [--only native-16,...]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

ROOT = Path(__file__).parent.parent.parent
ROWS, COLUMNS = 496, 512
NATIVE_BYTES, COMPRESSED_FRAMES = 130_023_424, 128
IMAGE_SIZE = (64, 384, 384)
READY = "ready"
MakeFile = Callable[[], bytes]


def kinds() -> dict[str, MakeFile]:
    """Give what makes each kind of file, by name: uncompressed volumes of 130 MB, and one a compressed syntax."""
    from damaged_streams import KINDS

    native = {
        "native-8": ("u1", 8),
        "native-16": ("u2", 12),
        "native-16-all-bits": ("u2", 16),
        "native-16-signed": ("i2", 12),
    }
    made: dict[str, MakeFile] = {name: partial(_native, *told) for name, told in native.items()}
    return made | {name.lower().replace(" ", "-"): partial(_compressed, name) for name in KINDS}


def _native(dtype: str, bits: int) -> bytes:
    import numpy as np
    from damaged_streams import frame_of
    from dicom_files import make_file

    frame = frame_of(bits, ROWS, COLUMNS).astype(dtype) >> (dtype == "i2")
    voxels = np.stack([frame] * (NATIVE_BYTES // frame.nbytes))
    return bytes(make_file(voxels, BitsStored=bits, HighBit=bits - 1))


def _compressed(name: str) -> bytes:
    import numpy as np
    from damaged_streams import KINDS, frame_of
    from dicom_files import make_encapsulated

    syntax, bits, encode = KINDS[name]
    frame = frame_of(bits, ROWS, COLUMNS)
    like = np.broadcast_to(frame, (COMPRESSED_FRAMES, *frame.shape))
    streams = [encode(frame)] * COMPRESSED_FRAMES
    return bytes(make_encapsulated(streams, like, syntax, BitsStored=bits, HighBit=bits - 1))


def work() -> None:
    """Read each file that a line of the input names, with the code of PYTHONPATH, and answer with the CPU seconds."""
    from extract.dicom.reader import read_dicom
    from extract.preprocess import frame_chooser, preprocess
    from extract.preset import PRESETS

    preset = PRESETS["pretrain"]
    print(READY, flush=True)
    for line in sys.stdin:
        data = Path(line.rstrip("\n")).read_bytes()
        start = process_time()
        read_dicom(data)
        whole = process_time() - start
        start = process_time()
        preprocess(read_dicom(data, frames=frame_chooser(preset, IMAGE_SIZE[0])), preset, IMAGE_SIZE)
        print(whole, process_time() - start, flush=True)


class Worker:
    """A process with the code of one folder, which reads files when it is asked to."""

    def __init__(self, root: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        command = [sys.executable, __file__, "--work"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=root, env=environment, stdin=pipe, stdout=pipe, text=True)
        if self._answer() != [READY]:
            raise SystemExit(f"{root}: expected code that reads DICOM files, got a process that ended")

    def seconds(self, path: Path) -> tuple[float, float] | None:
        """Give the CPU seconds of reading all frames, and of making the input; None where the code refuses the file."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answer = self._answer()
        return (float(answer[0]), float(answer[1])) if answer else None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a folder with the code of a commit, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="octprobe-before-") as folder:
        root = Path(folder) / "code"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, commit], cwd=ROOT, check=True)
        try:
            yield root
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", root], cwd=ROOT, check=True)


def compare(name: str, path: Path, before: Path, rounds: int) -> str:
    """Give a line of the table for one file."""
    workers = [Worker(before), Worker(ROOT)]
    turns = [[worker.seconds(path) for worker in workers] for _ in range(rounds + 1)][1:]
    for worker in workers:
        worker.close()
    cells = []
    for which in (0, 1):
        pairs = [(old[which], new[which]) for old, new in turns if old and new]
        if not pairs:
            return f"| {name} | one of the two codes refuses it | |"
        was, now = (median(side) for side in zip(*pairs, strict=True))
        cells.append(f"{was * 1000:.1f} -> {now * 1000:.1f} ms, **{median(old / new for old, new in pairs):.2f}x**")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="an earlier commit")
    parser.add_argument("--rounds", type=int, default=9)
    made = kinds()
    parser.add_argument("--only", default=",".join(made), help="kinds of files, separated by commas")
    options = parser.parse_args()
    print("| file | all frames | encoder's input |\n|---|---|---|")
    with checked_out(options.commit) as before, tempfile.TemporaryDirectory(prefix="octprobe-files-") as folder:
        for name in options.only.split(","):
            path = Path(folder) / f"{name}.dcm"
            path.write_bytes(made[name]())
            print(compare(name, path, before, options.rounds), flush=True)
            path.unlink()


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--work"] else main()
